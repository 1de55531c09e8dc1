//! Which errors an operation may answer with. Most follow from what it is: from its path, its body, its roles.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// When an operation may answer with a code.
#[derive(Clone, Copy)]
enum Of {
    /// What is below `/api/v1`; refusals that pass are no answer to a stream, which is told to come back.
    Api,
    /// What asks for a key.
    Key,
    /// What takes a body.
    Body,
    /// What takes a query.
    Query,
    /// What has this in its path.
    Path(&'static str),
    /// What names the code in its own `responses`.
    Named,
    /// No operation: a path or method that does not exist.
    Nothing,
}

/// Every code, its status, when it comes and what it means. `error_code` is part of the API.
const CODES: &[(u16, &str, Of, &str)] = &[
    (400, "INVALID_JOB_ID", Of::Path("job_id"), "The job id is no UUID."),
    (400, "VALIDATION_ERROR", Of::Body, "The body is not JSON, or did not arrive whole."),
    (403, "AUTHENTICATION_REQUIRED", Of::Key, "No key was presented."),
    (403, "INVALID_API_KEY", Of::Key, "The key or ticket is not known, or no longer."),
    (403, "INSUFFICIENT_PERMISSIONS", Of::Key, "The key lacks the role."),
    (404, "JOB_NOT_FOUND", Of::Path("job_id"), "There is no such job, or it is not the caller's."),
    (404, "FILE_NOT_FOUND", Of::Path("file_id"), "The job has no such file."),
    (404, "MODEL_NOT_FOUND", Of::Named, "There is no such model."),
    (404, "METRIC_NOT_FOUND", Of::Named, "There is no counter and no gauge of this name."),
    (404, "CLEANUP_NOT_FOUND", Of::Named, "There was no cleanup yet, or its report has ended."),
    (404, "NOT_FOUND", Of::Nothing, "There is nothing at this path."),
    (405, "METHOD_NOT_ALLOWED", Of::Nothing, "The path does not take this method."),
    (404, "KEY_NOT_FOUND", Of::Path("key_id"), "There is no such key."),
    (408, "BODY_TIMEOUT", Of::Body, "The body did not arrive within `server.body_timeout`."),
    (409, "TOO_MANY_KEYS", Of::Named, "The name has two live keys, or there are too many in all."),
    (409, "INVALID_TRANSITION", Of::Named, "The job's status does not allow it."),
    (409, "JOB_EXISTS", Of::Named, "There is a job of this id already."),
    (409, "CLEANUP_RUNNING", Of::Named, "A cleanup is running, here or in another process."),
    (409, "LOCK_UNAVAILABLE", Of::Named, "Another holds the lock; `expires_in_ms` in `details`."),
    (409, "LOCK_LOST", Of::Named, "The lock is not this token's, or no longer."),
    (413, "PAYLOAD_TOO_LARGE", Of::Body, "The body is larger than `server.body_limit`."),
    (415, "UNSUPPORTED_MEDIA_TYPE", Of::Body, "`Content-Type` is not `application/json`."),
    (
        422,
        "VALIDATION_ERROR",
        Of::Body,
        "A field is missing, unknown or not valid; `detail` says which.",
    ),
    (422, "VALIDATION_ERROR", Of::Query, "A query parameter is not valid; `detail` says which."),
    (422, "VALIDATION_ERROR", Of::Path("file_id"), "The file id is not like `file_000`."),
    (422, "VALIDATION_ERROR", Of::Path("resource"), "The resource is no name of a lock."),
    (422, "VALIDATION_ERROR", Of::Path("model_id"), "The model id is not valid."),
    (422, "VALIDATION_ERROR", Of::Path("name"), "The name has characters that it may not have."),
    (422, "VALIDATION_ERROR", Of::Path("key_id"), "The key id is not like `i2m_Ab12Cd34`."),
    (422, "TOO_MANY_FILES", Of::Named, "The job has more files than `jobs.max_files`."),
    (422, "IDEMPOTENCY_CONFLICT", Of::Named, "The `Idempotency-Key` was used for another request."),
    (
        429,
        "RATE_LIMIT_EXCEEDED",
        Of::Api,
        "Too many requests; `Retry-After` says when to come back.",
    ),
    (500, "INTERNAL", Of::Api, "The service failed; `request_id` helps to find out why."),
    (
        502,
        "ORIGIN_FAILED",
        Of::Named,
        "The origin of models failed; try again after `Retry-After`.",
    ),
    (501, "NOT_PERMITTED_BY_REDIS", Of::Named, "The service's Redis user may not do this."),
    (503, "REDIS_UNAVAILABLE", Of::Api, "Redis is away; try again after `Retry-After`."),
    (
        503,
        "SERVICE_BUSY",
        Of::Nothing,
        "Too many streams, or about to stop; streams are told to come back.",
    ),
    (504, "TIMEOUT", Of::Api, "The answer took longer than `server.request_timeout`."),
];

/// Lists all codes in the schema of problems.
pub(super) fn name_all_codes(schemas: &mut Map<String, Value>) {
    let mut names: Vec<_> = CODES.iter().map(|it| it.1).collect();
    names.sort_unstable();
    names.dedup();
    if let Some(code) = schemas.get_mut("Problem").map(|it| &mut it["properties"]["error_code"]) {
        code["enum"] = json!(names);
    }
}

/// Adds the errors that `operation` may answer with, and gives the ones that it names their meaning and body.
pub(super) fn describe(path: &str, operation: &mut Value) {
    let mut said: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    let is_stream = operation["responses"]["200"]["content"].get("text/event-stream").is_some();
    for (status, code, of, meaning) in CODES {
        let named = &operation["responses"][status.to_string()]["description"];
        let is_named = named.as_str().is_some_and(|it| it.contains(code));
        let applies = match of {
            Of::Api => path.starts_with("/api/v1/") && !(is_stream && matches!(status, 429 | 503)),
            Of::Key => operation["security"].as_array().is_some_and(|it| !it.is_empty()),
            Of::Body => operation.get("requestBody").is_some(),
            Of::Query => has_query(operation),
            Of::Path(name) => path.contains(&format!("{{{name}}}")),
            Of::Named | Of::Nothing => false,
        };
        if applies || is_named {
            said.entry(*status).or_default().push(format!("`{code}`: {meaning}"));
        }
    }
    for (status, lines) in said {
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
    parameters.into_iter().any(|it| it["in"] == "query")
}

fn example(status: u16, code: &str) -> Value {
    let meaning = CODES.iter().find(|it| it.0 == status && it.1 == code).map_or("", |it| it.3);
    json!({
        "type": format!("/problems/{}", code.to_lowercase().replace('_', "-")),
        "title": StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason()),
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

    /// Codes are the only texts in capitals there.
    #[test]
    fn every_code_that_is_sent_is_documented() {
        let mut n_found = 0;
        for file in ["src/api/problem.rs", "src/api/extract/mod.rs"] {
            let text = fs::read_to_string(file).unwrap();
            for word in text.split('"').filter(|it| {
                it.len() > 4 && it.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
            }) {
                n_found += 1;
                assert!(CODES.iter().any(|it| it.1 == word), "{word} has no line in CODES");
            }
        }
        assert!(n_found > 15);
    }
}
