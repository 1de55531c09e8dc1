//! What stands in paths. A new `{name}` in a route is described here, once for all routes that have it.

use serde_json::{Value, json};

/// The parameter of this name, which `None` says that nobody has described.
pub(super) fn of_path(name: &str) -> Option<Value> {
    let (description, schema) = match name {
        "job_id" => (
            "The job: a UUID with hyphens.",
            json!({"type": "string", "format": "uuid", "examples": ["1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"]}),
        ),
        "file_id" => (
            "The file: `file_` and its place in the job, from `file_000`.",
            json!({"type": "string", "pattern": "^file_([0-9]{3}|[1-9][0-9]{3,5})$", "examples": ["file_000"]}),
        ),
        "resource" => (
            "What is locked, such as `job:{id}` or `file:{id}`: 1 to 200 bytes without spaces, not beginning with `i2m:`.",
            json!({"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^(?!i2m:)[^\s\x00-\x1f\x7f-\x9f]+$", "examples": ["job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"]}),
        ),
        "model_id" => (
            "The model: letters, digits and `-_.:`.",
            json!({"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$", "examples": ["chair-1"]}),
        ),
        "name" => (
            "The metric: letters, digits, dots, hyphens and underscores.",
            json!({"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$", "examples": ["models.rendered"]}),
        ),
        "key_id" => (
            "The key: its first twelve characters.",
            json!({"type": "string", "pattern": "^i2m_[A-Za-z0-9_-]{8}$", "examples": ["i2m_Ab12Cd34"]}),
        ),
        _ => return None,
    };
    Some(json!({
        "name": name,
        "in": "path",
        "required": true,
        "description": description,
        "schema": schema,
    }))
}
