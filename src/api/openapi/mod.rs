//! The OpenAPI document: the declarations beside each handler, completed with the parts that are common to all.
//!
//! A handler's `#[utoipa::path]` declares its method, path, tag, roles and bodies; its doc comment is the summary. This
//! module adds path parameters, the error responses that follow from the declaration, and examples.

mod errors;
mod example;
mod limits;
mod operation;
mod parameters;
pub(crate) mod routes;
mod schema;

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use crate::config::Config;

/// The description of the API in the document.
const INTRODUCTION: &str = include_str!("introduction.md");

/// Groups of operations, in the order of the document.
const TAGS: [(&str, &str); 12] = [
    ("jobs", "Create, read, list, cancel, retry and delete jobs."),
    ("files", "The files of a job and their results."),
    (
        "progress",
        "Progress of jobs: workers report it; clients read it once or follow it as a stream.",
    ),
    ("rate limits", "Request limits of a client."),
    ("locks", "Distributed locks across processes and programs."),
    ("models", "Cached model data."),
    ("metrics", "Counters and gauges."),
    ("webhooks", "HTTP calls that the service makes."),
    ("keys", "API keys."),
    ("admin", "For operators."),
    ("health", "Probes and reports; they need no key."),
    (
        crate::api::legacy_paths::LEGACY_TAG,
        "Legacy paths of operations above, which the deployed front-end calls. New programs use the other paths.",
    ),
];

/// Builds the document from the operations and schemas that the routers collected.
///
/// # Errors
///
/// If it cannot be serialized, which does not happen.
pub(crate) fn build_document(collected: OpenApi, config: &Config) -> serde_json::Result<Value> {
    let mut document = serde_json::to_value(collected)?;
    document["info"] = json!({
        "title": "image2model-gateway",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "Jobs, live progress and a Celery queue in front of Redis.",
        "description": INTRODUCTION,
        "license": {"name": "MIT", "identifier": "MIT"},
    });
    document["servers"] = json!([{"url": "/", "description": "this service"}]);
    document["components"]["securitySchemes"] = security_schemes();
    let mut schemas = object(&mut document["components"]["schemas"]);
    let mut paths = object(&mut document["paths"]);
    schema::normalize_schemas(&mut schemas, &paths);
    errors::list_error_codes(&mut schemas);
    limits::apply_config_limits(&mut schemas, config);
    for (path, item) in &mut paths {
        let item = item.as_object_mut().into_iter().flatten();
        for (method, operation) in item.filter(|(_, operation)| operation.is_object()) {
            operation::complete_operation(path, method, operation, &schemas);
        }
    }
    let is_used =
        |tag: &str| paths.values().any(|item| item.to_string().contains(&format!("[\"{tag}\"]")));
    let tags = TAGS.iter().filter(|(tag, _)| is_used(tag));
    document["tags"] =
        tags.map(|(name, description)| json!({"name": name, "description": description})).collect();
    document["components"]["schemas"] = Value::Object(schemas);
    document["paths"] = Value::Object(paths);
    Ok(document)
}

/// One entry per operation: method, path, roles and summary.
pub(crate) fn list(document: &Value) -> Vec<[String; 4]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| {
            let roles = operation::roles(operation).join(", ");
            [method.to_uppercase(), path.clone(), roles, text(&operation["summary"])]
        })
    });
    operations.collect()
}

fn object(value: &mut Value) -> Map<String, Value> {
    match value.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn security_schemes() -> Value {
    json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key in `Authorization: Bearer KEY`. The names in the requirement of an \
                operation are roles; the key needs one of them.",
        },
        "api_key": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "The API key in the header `X-API-Key`.",
        },
        "ticket": {
            "type": "apiKey",
            "in": "query",
            "name": "ticket",
            "description": "A stream ticket for browsers, because `EventSource` cannot send headers. The `links.stream` of \
                a job and `POST /api/v1/jobs/{job_id}/ticket` contain one; `POST /api/v1/progress/ticket` returns \
                tickets for many jobs.",
        },
    })
}
