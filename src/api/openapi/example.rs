//! Examples of request and response bodies, built from the examples of their parts: a type or a field declares
//! `#[schema(example = …)]` once, and every operation that uses it shows it.

use serde_json::{Map, Value, json};

use super::schema::schema_name;

/// Nesting limit, because a schema can contain itself.
const MAX_DEPTH: usize = 12;

/// An example of `schema`, or `None` if its parts declare too few examples.
pub(super) fn example_of(schema: &Value, schemas: &Map<String, Value>) -> Option<Value> {
    build(schema, schemas, MAX_DEPTH)
}

fn build(schema: &Value, schemas: &Map<String, Value>, depth: usize) -> Option<Value> {
    let build = |schema: &Value| build(schema, schemas, depth.checked_sub(1)?);
    if let Some(example) = schema["examples"].get(0).or_else(|| schema["enum"].get(0)) {
        return Some(example.clone());
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return build(schemas.get(schema_name(reference)?)?);
    }
    if let Some(all) = schema["allOf"].as_array() {
        let parts = all.iter().filter_map(build);
        let parts = parts.filter_map(|part| part.as_object().cloned());
        return Some(Value::Object(parts.flatten().collect()));
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        return choices.iter().find(|choice| choice["type"] != "null").and_then(build);
    }
    if schema["type"].is_null() {
        return Some(json!({"any": "JSON"}));
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    };
    match (kind?, schema["format"].as_str()) {
        ("object", _) => object(schema, build),
        ("array", _) => {
            Some(build(&schema["items"]).map_or_else(|| json!([]), |item| json!([item])))
        }
        ("boolean", _) => Some(json!(true)),
        ("integer" | "number", _) => Some(json!(1)),
        (_, Some("date-time")) => Some(json!("2026-01-31T12:00:00Z")),
        (_, Some("uuid")) => Some(json!("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")),
        _ => None,
    }
}

/// All required fields, and the optional fields that have an example.
fn object(schema: &Value, build: impl Fn(&Value) -> Option<Value>) -> Option<Value> {
    let required = schema["required"].as_array();
    let mut object = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let is_required =
            required.is_some_and(|names| names.iter().any(|required| required == name));
        match build(property) {
            Some(example) => drop(object.insert(name.clone(), example)),
            None if is_required => return None,
            None => (),
        }
    }
    Some(Value::Object(object))
}
