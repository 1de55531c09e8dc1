//! The API document: what stands beside each handler, completed by what holds for all of them.
//!
//! A handler's `#[utoipa::path]` says its method, path, tag, roles and bodies; its doc comment is the summary. Path
//! parameters, the errors that follow from these, and examples are filled in here.

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

/// The version of the document's own form, and of the API that it describes.
const INTRODUCTION: &str = include_str!("introduction.md");

/// Groups of operations, in the order in which a reader meets them.
const TAGS: [(&str, &str); 12] = [
    ("jobs", "Create, read, list, cancel, retry and delete jobs."),
    ("files", "The files of a job and their results."),
    ("progress", "How far a job is: reported by workers, read at once, or followed as a stream."),
    ("rate limits", "How often a caller may call."),
    ("locks", "Locks that exclude each other across processes and programs."),
    ("models", "Cached model data."),
    ("metrics", "Counters and gauges."),
    ("webhooks", "Calls that the service makes."),
    ("keys", "API keys."),
    ("admin", "For operators."),
    ("health", "For Kubernetes and for people; without a key."),
    (
        crate::api::legacy_paths::ALIAS_TAG,
        "Older names of operations above, which the deployed front-end calls. New programs use the others.",
    ),
];

/// The whole document, from what the routers collected.
///
/// # Errors
///
/// If it cannot be written as JSON, which does not happen.
pub(crate) fn complete(collected: OpenApi, config: &Config) -> serde_json::Result<Value> {
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
    schema::tidy_all(&mut schemas, &paths);
    errors::name_all_codes(&mut schemas);
    limits::apply(&mut schemas, config);
    for (path, item) in &mut paths {
        let item = item.as_object_mut().into_iter().flatten();
        for (method, operation) in item.filter(|it| it.1.is_object()) {
            operation::complete(path, method, operation, &schemas);
        }
    }
    let is_used =
        |tag: &str| paths.values().any(|it| it.to_string().contains(&format!("[\"{tag}\"]")));
    let tags = TAGS.iter().filter(|it| is_used(it.0));
    document["tags"] =
        tags.map(|(name, description)| json!({"name": name, "description": description})).collect();
    document["components"]["schemas"] = Value::Object(schemas);
    document["paths"] = Value::Object(paths);
    Ok(document)
}

/// One line an operation: method, path, who may call it, what it does.
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
            "description": "An API key in `Authorization: Bearer KEY`. The names in an operation's requirement are \
                roles; the key needs one of them.",
        },
        "api_key": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "The same key in a header of its own.",
        },
        "ticket": {
            "type": "apiKey",
            "in": "query",
            "name": "ticket",
            "description": "A stream ticket, for browsers: `EventSource` sends no header. It comes with a job's \
                `links.stream` and from `POST /api/v1/jobs/{job_id}/ticket`; `POST /api/v1/progress/ticket` \
                makes those of many jobs.",
        },
    })
}
