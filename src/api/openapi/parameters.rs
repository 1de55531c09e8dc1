//! Path parameters. Each `{name}` is described here once, for all routes that contain it.

use serde_json::{Value, json};

/// The description of the parameter `name`, or `None` if it has none.
pub(super) fn path_parameter(name: &str) -> Option<Value> {
    let (description, schema) = match name {
        "job_id" => (
            "Job id: a UUID with hyphens.",
            json!({"type": "string", "format": "uuid", "examples": ["1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"]}),
        ),
        "file_id" => (
            "File id: `file_` and the index of the file in the job, starting with `file_000`.",
            json!({"type": "string", "pattern": "^file_([0-9]{3}|[1-9][0-9]{3,5})$", "examples": ["file_000"]}),
        ),
        "resource" => (
            "Lock name, such as `job:{id}` or `file:{id}`: 1 to 200 bytes without spaces, not starting with `i2m:`.",
            json!({"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^(?!i2m:)[^\s\x00-\x1f\x7f-\x9f]+$", "examples": ["job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"]}),
        ),
        "model_id" => (
            "Model id: letters, digits and `-_.:`.",
            json!({"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$", "examples": ["chair-1"]}),
        ),
        "name" => (
            "Metric name: letters, digits, dots, hyphens and underscores.",
            json!({"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$", "examples": ["models.rendered"]}),
        ),
        "key_id" => (
            "Key id: the first twelve characters of the key.",
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
