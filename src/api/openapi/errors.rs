//! Error responses of operations. Most follow from the operation itself: its path, body and security.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// The operations that may return an error code.
#[derive(Clone, Copy)]
enum AppliesTo {
    /// Operations below `/api/v1`. For streams without 429 and 503, because they respond with 200 and `retry:` instead.
    Api,
    /// Operations that require a key.
    Key,
    /// Operations with a request body.
    Body,
    /// Operations with query parameters.
    Query,
    /// Operations with this path parameter.
    Path(&'static str),
    /// Operations that name the code in their own `responses`.
    Named,
    /// No operation, for example an unknown path or method.
    Nothing,
}

/// Every error code with its status, operations and meaning. `error_code` is part of the API.
const CODES: &[(u16, &str, AppliesTo, &str)] = &[
    (400, "INVALID_JOB_ID", AppliesTo::Path("job_id"), "The job id is not a UUID."),
    (400, "VALIDATION_ERROR", AppliesTo::Body, "The body is not JSON or is incomplete."),
    (403, "AUTHENTICATION_REQUIRED", AppliesTo::Key, "The request has no key."),
    (403, "INVALID_API_KEY", AppliesTo::Key, "The key or ticket is unknown, revoked or expired."),
    (403, "INSUFFICIENT_PERMISSIONS", AppliesTo::Key, "The key does not have the required role."),
    (
        404,
        "JOB_NOT_FOUND",
        AppliesTo::Path("job_id"),
        "The job does not exist or belongs to another client.",
    ),
    (404, "FILE_NOT_FOUND", AppliesTo::Path("file_id"), "The job has no such file."),
    (404, "MODEL_NOT_FOUND", AppliesTo::Named, "The model does not exist."),
    (404, "METRIC_NOT_FOUND", AppliesTo::Named, "No counter or gauge has this name."),
    (
        404,
        "CLEANUP_NOT_FOUND",
        AppliesTo::Named,
        "No cleanup has run yet, or its report has expired.",
    ),
    (404, "NOT_FOUND", AppliesTo::Nothing, "The path does not exist."),
    (405, "METHOD_NOT_ALLOWED", AppliesTo::Nothing, "The path does not support this method."),
    (404, "KEY_NOT_FOUND", AppliesTo::Path("key_id"), "The key does not exist."),
    (408, "BODY_TIMEOUT", AppliesTo::Body, "The body did not arrive within `server.body_timeout`."),
    (
        409,
        "TOO_MANY_KEYS",
        AppliesTo::Named,
        "The name has two active keys, or the limit of all keys is reached.",
    ),
    (409, "INVALID_TRANSITION", AppliesTo::Named, "The job's status does not allow it."),
    (409, "JOB_EXISTS", AppliesTo::Named, "A job with this id already exists."),
    (409, "CLEANUP_RUNNING", AppliesTo::Named, "A cleanup is running in this or another process."),
    (
        409,
        "LOCK_UNAVAILABLE",
        AppliesTo::Named,
        "Another client holds the lock; `details` has `expires_in_ms`.",
    ),
    (
        409,
        "LOCK_LOST",
        AppliesTo::Named,
        "The token does not hold the lock, or no longer holds it.",
    ),
    (413, "PAYLOAD_TOO_LARGE", AppliesTo::Body, "The body is larger than `server.body_limit`."),
    (415, "UNSUPPORTED_MEDIA_TYPE", AppliesTo::Body, "`Content-Type` is not `application/json`."),
    (
        422,
        "VALIDATION_ERROR",
        AppliesTo::Body,
        "A field is missing, unknown or invalid; `detail` names it.",
    ),
    (422, "VALIDATION_ERROR", AppliesTo::Query, "A query parameter is invalid; `detail` names it."),
    (
        422,
        "VALIDATION_ERROR",
        AppliesTo::Path("file_id"),
        "The file id does not have the form `file_000`.",
    ),
    (
        422,
        "VALIDATION_ERROR",
        AppliesTo::Path("resource"),
        "The resource is not a valid lock name.",
    ),
    (422, "VALIDATION_ERROR", AppliesTo::Path("model_id"), "The model id is invalid."),
    (422, "VALIDATION_ERROR", AppliesTo::Path("name"), "The name contains invalid characters."),
    (
        422,
        "VALIDATION_ERROR",
        AppliesTo::Path("key_id"),
        "The key id does not have the form `i2m_Ab12Cd34`.",
    ),
    (422, "TOO_MANY_FILES", AppliesTo::Named, "The job has more files than `jobs.max_files`."),
    (
        422,
        "IDEMPOTENCY_CONFLICT",
        AppliesTo::Named,
        "The `Idempotency-Key` was used for another request.",
    ),
    (
        429,
        "RATE_LIMIT_EXCEEDED",
        AppliesTo::Api,
        "Too many requests; retry after `Retry-After` seconds.",
    ),
    (500, "INTERNAL", AppliesTo::Api, "Internal error; the log has its cause under `request_id`."),
    (
        502,
        "ORIGIN_FAILED",
        AppliesTo::Named,
        "The origin of models failed; retry after `Retry-After` seconds.",
    ),
    (
        501,
        "NOT_PERMITTED_BY_REDIS",
        AppliesTo::Named,
        "The Redis user of the service lacks the permission.",
    ),
    (
        503,
        "REDIS_UNAVAILABLE",
        AppliesTo::Api,
        "Redis is unavailable; retry after `Retry-After` seconds.",
    ),
    (
        503,
        "SERVICE_BUSY",
        AppliesTo::Nothing,
        "A limit of this process is reached, or it is shutting down; streams reconnect.",
    ),
    (504, "TIMEOUT", AppliesTo::Api, "The response took longer than `server.request_timeout`."),
];

/// Lists all codes in the schema `Problem`.
pub(super) fn list_error_codes(schemas: &mut Map<String, Value>) {
    let mut names: Vec<_> = CODES.iter().map(|(_, code, ..)| *code).collect();
    names.sort_unstable();
    names.dedup();
    if let Some(code) =
        schemas.get_mut("Problem").map(|schema| &mut schema["properties"]["error_code"])
    {
        code["enum"] = json!(names);
    }
}

/// Adds the error responses that apply to `operation`, and completes those that it declares with meaning and body.
pub(super) fn add_error_responses(path: &str, operation: &mut Value) {
    let mut meanings: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    let is_stream = operation["responses"]["200"]["content"].get("text/event-stream").is_some();
    for (status, code, applies_to, meaning) in CODES {
        let declared = operation["responses"][status.to_string()]["description"].as_str();
        let is_declared = declared.is_some_and(|codes| codes.contains(code));
        let applies = match applies_to {
            AppliesTo::Api => {
                path.starts_with("/api/v1/") && !(is_stream && matches!(status, 429 | 503))
            }
            AppliesTo::Key => operation["security"]
                .as_array()
                .is_some_and(|requirements| !requirements.is_empty()),
            AppliesTo::Body => operation.get("requestBody").is_some(),
            AppliesTo::Query => has_query(operation),
            AppliesTo::Path(name) => path.contains(&format!("{{{name}}}")),
            AppliesTo::Named | AppliesTo::Nothing => false,
        };
        if applies || is_declared {
            meanings.entry(*status).or_default().push(format!("`{code}`: {meaning}"));
        }
    }
    for (status, lines) in meanings {
        let code = lines[0].split('`').nth(1).unwrap_or_default();
        operation["responses"][status.to_string()] = json!({
            "description": lines.join("\n\n"),
            "content": {"application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": example(status, code),
            }},
        });
    }
}

fn has_query(operation: &Value) -> bool {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters.into_iter().any(|parameter| parameter["in"] == "query")
}

fn example(status: u16, code: &str) -> Value {
    let found = CODES.iter().find(|entry| (entry.0, entry.1) == (status, code));
    let meaning = found.map_or("", |(_, _, _, meaning)| *meaning);
    json!({
        "type": format!("/problems/{}", code.to_lowercase().replace('_', "-")),
        "title": StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()),
        "status": status,
        "detail": meaning,
        "error": true,
        "error_code": code,
        "message": meaning,
        "request_id": "0190a6c1-7a2b-4c3d-8e4f-5a6b7c8d9e0f",
        "details": {},
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::CODES;

    /// Error codes are the only upper-case strings in these files.
    #[test]
    fn every_code_that_is_sent_is_documented() {
        let mut code_count = 0;
        for file in ["src/api/problem.rs", "src/api/extract/mod.rs"] {
            let text = fs::read_to_string(file).unwrap();
            for word in text.split('"').filter(|text| {
                let mut bytes = text.bytes();
                text.len() > 4 && bytes.all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            }) {
                code_count += 1;
                assert!(
                    CODES.iter().any(|(_, code, ..)| *code == word),
                    "{word} has no line in CODES"
                );
            }
        }
        assert!(code_count > 15);
    }
}
