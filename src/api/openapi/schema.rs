//! Adjusts the derived schemas to the JSON that the service accepts and returns.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Removes null from optional fields of response schemas, because a response omits a field without a value. Request
/// schemas keep null, which is equivalent to an absent field. Renames `example` to the `examples` of OpenAPI 3.1.
pub(super) fn normalize_schemas(schemas: &mut Map<String, Value>, paths: &Map<String, Value>) {
    let in_requests = request_schemas(schemas, paths);
    for (name, schema) in schemas {
        normalize_schema(schema, in_requests.contains(name));
    }
}

/// The names of all schemas that request bodies refer to, directly or indirectly.
fn request_schemas(schemas: &Map<String, Value>, paths: &Map<String, Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let operations = paths.values().filter_map(Value::as_object).flat_map(Map::values);
    let mut pending: Vec<&Value> =
        operations.filter_map(|operation| operation.get("requestBody")).collect();
    while let Some(value) = pending.pop() {
        match value {
            Value::Object(map) => {
                let name = map.get("$ref").and_then(Value::as_str).and_then(schema_name);
                if let Some(name) = name.filter(|name| found.insert((*name).to_owned())) {
                    pending.extend(schemas.get(name));
                }
                pending.extend(map.values());
            }
            Value::Array(list) => pending.extend(list),
            _ => (),
        }
    }
    found
}

/// The name in `#/components/schemas/{name}`.
pub(super) fn schema_name(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/components/schemas/")
}

fn normalize_schema(schema: &mut Value, may_be_null: bool) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(example) = map.remove("example") {
        map.insert("examples".to_owned(), json!([example]));
    }
    set_integer_range(map);
    // JSON object keys are strings, even if the Rust type of the key is not.
    if map.get("propertyNames").is_some_and(|names| names["type"] != "string") {
        map.remove("propertyNames");
    }
    let required = map.get("required").cloned().unwrap_or_default();
    let is_required = |name: &String| {
        required.as_array().is_some_and(|names| names.iter().any(|required| required == name))
    };
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for (name, property) in properties {
            if !may_be_null && !is_required(name) {
                forbid_null(property);
            }
            normalize_schema(property, may_be_null);
        }
    }
    for (key, value) in map {
        match (key.as_str(), value) {
            ("items" | "additionalProperties", nested) => normalize_schema(nested, may_be_null),
            ("allOf" | "oneOf" | "anyOf", Value::Array(list)) => {
                for nested in list {
                    normalize_schema(nested, may_be_null);
                }
            }
            _ => (),
        }
    }
}

/// Replaces the `format` of an unsigned integer, which is not standard, by its range.
fn set_integer_range(map: &mut Map<String, Value>) {
    let max = match map.get("format").and_then(Value::as_str) {
        Some("u-int8") => u64::from(u8::MAX),
        Some("u-int16") => u64::from(u16::MAX),
        Some("u-int32") => u64::from(u32::MAX),
        Some("u-int64") => u64::MAX,
        _ => return,
    };
    map.remove("format");
    map.entry("minimum").or_insert(json!(0));
    map.entry("maximum").or_insert(json!(max));
}

/// Removes null from the types that `schema` allows.
pub(super) fn forbid_null(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Value::Array(kinds)) = map.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            map.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(choices)) = map.get_mut("oneOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            map.remove("oneOf");
            map.extend(only);
        }
    }
}
