//! An example for every body, made from the examples of its parts: a type says `#[schema(example = …)]` once, at a
//! field or for itself, and each operation that has it shows it.

use serde_json::{Map, Value, json};

use super::schema::name_of;

/// Types within types that are followed, against one that holds itself.
const MAX_DEPTH: usize = 12;

/// An example of `schema`, or nothing if its types say too little.
pub(super) fn of(schema: &Value, schemas: &Map<String, Value>) -> Option<Value> {
    build(schema, schemas, MAX_DEPTH)
}

fn build(schema: &Value, schemas: &Map<String, Value>, depth: usize) -> Option<Value> {
    let build = |it: &Value| build(it, schemas, depth.checked_sub(1)?);
    if let Some(example) = schema["examples"].get(0).or_else(|| schema["enum"].get(0)) {
        return Some(example.clone());
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return build(schemas.get(name_of(reference)?)?);
    }
    if let Some(all) = schema["allOf"].as_array() {
        let parts = all.iter().filter_map(build);
        let parts = parts.filter_map(|it| it.as_object().cloned());
        return Some(Value::Object(parts.flatten().collect()));
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        return choices.iter().find(|it| it["type"] != "null").and_then(build);
    }
    if schema["type"].is_null() {
        return Some(json!({"any": "JSON"}));
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find_map(|it| it.as_str().filter(|it| *it != "null")),
        kind => kind.as_str(),
    };
    match (kind?, schema["format"].as_str()) {
        ("object", _) => object(schema, build),
        ("array", _) => Some(build(&schema["items"]).map_or_else(|| json!([]), |it| json!([it]))),
        ("boolean", _) => Some(json!(true)),
        ("integer" | "number", _) => Some(json!(1)),
        (_, Some("date-time")) => Some(json!("2026-01-31T12:00:00Z")),
        (_, Some("uuid")) => Some(json!("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")),
        _ => None,
    }
}

/// All required fields, and of the others those that have something to show.
fn object(schema: &Value, build: impl Fn(&Value) -> Option<Value>) -> Option<Value> {
    let required = schema["required"].as_array();
    let mut object = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.is_some_and(|it| it.iter().any(|it| it == name));
        match build(property) {
            Some(example) => drop(object.insert(name.clone(), example)),
            None if is_required => return None,
            None => (),
        }
    }
    Some(Value::Object(object))
}
