//! Completes one operation: its id, roles, path parameters, error responses and examples.

use serde_json::{Map, Value, json};

use super::{errors, example, parameters, schema};

pub(super) fn complete_operation(
    path: &str,
    method: &str,
    operation: &mut Value,
    schemas: &Map<String, Value>,
) {
    operation["operationId"] = json!(operation_id(path, method, operation));
    operation["security"] = security(operation);
    add_path_parameters(path, operation);
    errors::add_error_responses(path, operation);
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

/// The roles of which the caller needs one; empty if the operation needs no key.
pub(super) fn roles(operation: &Value) -> Vec<String> {
    let bearer = operation["security"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|requirement| requirement.get("bearer"));
    let roles = bearer.and_then(Value::as_array).into_iter().flatten();
    roles.filter_map(|role| role.as_str().map(str::to_owned)).collect()
}

/// The tag and the handler's id, such as `jobs_create`. The id of an alias is made from its path, because its handler's
/// id is taken.
fn operation_id(path: &str, method: &str, operation: &Value) -> String {
    let tag = operation["tags"][0].as_str().unwrap_or("untagged").replace([' ', '-'], "_");
    let handler = operation["operationId"].as_str().unwrap_or(method);
    if operation["deprecated"] != true {
        return format!("{tag}_{handler}");
    }
    let words = path.trim_start_matches("/api/v1").split('/').filter(|word| !word.starts_with('{'));
    format!("{tag}{}", words.collect::<Vec<_>>().join("_"))
}

/// Expands the `("key" = [roles])` of a handler to the two headers that can carry the key.
fn security(operation: &Value) -> Value {
    let requirements = operation["security"].as_array().into_iter().flatten();
    let expanded = requirements.flat_map(|requirement| match requirement.get("key") {
        Some(roles) => vec![json!({"bearer": roles}), json!({"api_key": roles})],
        None => vec![requirement.clone()],
    });
    expanded.collect()
}

fn add_path_parameters(path: &str, operation: &mut Value) {
    let mut parameters: Vec<Value> = path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .filter_map(parameters::path_parameter)
        .collect();
    let own = operation["parameters"].as_array().cloned().unwrap_or_default();
    parameters.extend(own.into_iter().map(|mut parameter| {
        let is_optional = parameter["required"] != true;
        if is_optional && let Some(schema) = parameter.get_mut("schema") {
            schema::forbid_null(schema);
        }
        parameter
    }));
    if parameters.is_empty() {
        operation.as_object_mut().map(|operation| operation.remove("parameters"));
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
                "204" => "Done. The response has no body.",
                "304" => "Not modified.",
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
            && let Some(example) = example::example_of(&media["schema"], schemas)
        {
            media["example"] = example;
        }
    }
}
