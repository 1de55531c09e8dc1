//! Schemas as they are derived from the types, made to say what the service does.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// In answers a field without a value is left out and never null, unless it is required; in requests null is as good
/// as nothing. Examples get the one spelling that OpenAPI 3.1 has for them.
pub(super) fn tidy_all(schemas: &mut Map<String, Value>, paths: &Map<String, Value>) {
    let asked = asked_for(schemas, paths);
    for (name, schema) in schemas {
        tidy(schema, asked.contains(name));
    }
}

/// The names of all schemas that a request's body may hold.
fn asked_for(schemas: &Map<String, Value>, paths: &Map<String, Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let operations = paths.values().filter_map(Value::as_object).flat_map(Map::values);
    let mut open: Vec<&Value> = operations.filter_map(|it| it.get("requestBody")).collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                let name = map.get("$ref").and_then(Value::as_str).and_then(name_of);
                if let Some(name) = name.filter(|it| found.insert((*it).to_owned())) {
                    open.extend(schemas.get(name));
                }
                open.extend(map.values());
            }
            Value::Array(list) => open.extend(list),
            _ => (),
        }
    }
    found
}

/// The name in `#/components/schemas/{name}`.
pub(super) fn name_of(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/components/schemas/")
}

fn tidy(schema: &mut Value, may_be_null: bool) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(example) = map.remove("example") {
        map.insert("examples".to_owned(), json!([example]));
    }
    bound(map);
    // Names are strings in JSON, whatever they are in Rust.
    if map.get("propertyNames").is_some_and(|it| it["type"] != "string") {
        map.remove("propertyNames");
    }
    let required = map.get("required").cloned().unwrap_or_default();
    let is_required =
        |name: &String| required.as_array().is_some_and(|it| it.iter().any(|it| it == name));
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for (name, property) in properties {
            if !may_be_null && !is_required(name) {
                forbid_null(property);
            }
            tidy(property, may_be_null);
        }
    }
    for (key, value) in map {
        match (key.as_str(), value) {
            ("items" | "additionalProperties", below) => tidy(below, may_be_null),
            ("allOf" | "oneOf" | "anyOf", Value::Array(list)) => {
                for below in list {
                    tidy(below, may_be_null);
                }
            }
            _ => (),
        }
    }
}

/// Says of an unsigned number how large it may be.
fn bound(map: &mut Map<String, Value>) {
    let most = match map.get("format").and_then(Value::as_str) {
        Some("u-int8") => u64::from(u8::MAX),
        Some("u-int16") => u64::from(u16::MAX),
        Some("u-int32") => u64::from(u32::MAX),
        Some("u-int64") => u64::MAX,
        _ => return,
    };
    map.remove("format");
    map.entry("minimum").or_insert(json!(0));
    map.entry("maximum").or_insert(json!(most));
}

pub(super) fn forbid_null(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Value::Array(kinds)) = map.get_mut("type") {
        kinds.retain(|it| it != "null");
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            map.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(choices)) = map.get_mut("oneOf") {
        choices.retain(|it| it["type"] != "null");
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            map.remove("oneOf");
            map.extend(only);
        }
    }
}
