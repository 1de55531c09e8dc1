//! One operation: its name, its roles, its path parameters, its errors and examples.

use serde_json::{Map, Value, json};

use super::{errors, example, parameters};

pub(super) fn complete(
    path: &str,
    method: &str,
    operation: &mut Value,
    schemas: &Map<String, Value>,
) {
    operation["operationId"] = json!(name(path, method, operation));
    operation["security"] = security(operation);
    describe_path(path, operation);
    errors::describe(path, operation);
    describe_successes(operation);
    if let Some(body) = operation.get_mut("requestBody") {
        add_examples(&mut body["content"], schemas);
    }
    for (_, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        if response.get("content").is_some() {
            add_examples(&mut response["content"], schemas);
        }
    }
}

/// The roles of which a caller needs one; none, if no key is asked for.
pub(super) fn roles(operation: &Value) -> Vec<String> {
    let bearer =
        operation["security"].as_array().into_iter().flatten().find_map(|it| it.get("bearer"));
    let roles = bearer.and_then(Value::as_array).into_iter().flatten();
    roles.filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

/// `jobs_create`: the tag and the handler's name. An alias is named after its path, as its handler has a name.
fn name(path: &str, method: &str, operation: &Value) -> String {
    let tag = operation["tags"][0].as_str().unwrap_or("untagged").replace([' ', '-'], "_");
    let handler = operation["operationId"].as_str().unwrap_or(method);
    if operation["deprecated"] != true {
        return format!("{tag}_{handler}");
    }
    let words = path.trim_start_matches("/api/v1").split('/').filter(|it| !it.starts_with('{'));
    format!("{tag}{}", words.collect::<Vec<_>>().join("_"))
}

/// A handler says `("key" = [roles])`; a key may come in either of two headers.
fn security(operation: &Value) -> Value {
    let requirements = operation["security"].as_array().into_iter().flatten();
    let spelled_out = requirements.flat_map(|it| match it.get("key") {
        Some(roles) => vec![json!({"bearer": roles}), json!({"api_key": roles})],
        None => vec![it.clone()],
    });
    spelled_out.collect()
}

fn describe_path(path: &str, operation: &mut Value) {
    let mut parameters: Vec<Value> = path
        .split('{')
        .skip(1)
        .filter_map(|it| it.split('}').next())
        .filter_map(parameters::of_path)
        .collect();
    let own = operation["parameters"].as_array().cloned().unwrap_or_default();
    parameters.extend(own.into_iter().map(|mut it| {
        let is_optional = it["required"] != true;
        if is_optional && let Some(schema) = it.get_mut("schema") {
            crate::api::openapi::schema::forbid_null(schema);
        }
        it
    }));
    if parameters.is_empty() {
        operation.as_object_mut().map(|it| it.remove("parameters"));
    } else {
        operation["parameters"] = json!(parameters);
    }
}

fn describe_successes(operation: &mut Value) {
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = json!(match status.as_str() {
                "201" => "Created.",
                "202" => "Accepted.",
                "204" => "Done; there is nothing to say.",
                "304" => "Not changed since.",
                _ => "Done.",
            });
        }
    }
}

fn add_examples(content: &mut Value, schemas: &Map<String, Value>) {
    for (kind, media) in content.as_object_mut().into_iter().flatten() {
        let has_one = media.get("example").is_some() || media.get("examples").is_some();
        if !has_one
            && kind.ends_with("json")
            && let Some(example) = example::of(&media["schema"], schemas)
        {
            media["example"] = example;
        }
    }
}
