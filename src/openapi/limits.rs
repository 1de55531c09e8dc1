//! Limits that the settings make, in the schemas of what they limit.

use serde_json::{Map, Value, json};

use crate::config::Config;

pub(super) fn apply(schemas: &mut Map<String, Value>, config: &Config) {
    let max_files = json!(config.jobs.max_files);
    let policies: Vec<_> = config.rate_limit.policies.iter().map(|it| &it.name).collect();
    let policies = json!({"enum": policies});
    let limit = json!({"type": "integer", "minimum": 1, "maximum": u32::MAX});
    let limits = [
        ("NewKeyBody", "limits", "propertyNames", policies.clone()),
        ("NewKeyBody", "limits", "additionalProperties", limit.clone()),
        ("LimitsBody", "limits", "propertyNames", policies),
        ("LimitsBody", "limits", "additionalProperties", limit),
        ("NewJob", "files", "maxItems", max_files.clone()),
        ("NewFile", "size", "maximum", json!(config.jobs.max_file_size.as_u64())),
        ("NewLock", "ttl_secs", "maximum", json!(config.locks.max_ttl.as_secs())),
        ("NewLock", "wait_secs", "maximum", json!(config.locks.max_wait.as_secs())),
        ("LockExtension", "ttl_secs", "maximum", json!(config.locks.max_ttl.as_secs())),
        ("NewModel", "ttl_secs", "maximum", json!(config.models.max_ttl.as_secs())),
        ("NewModel", "stale_secs", "maximum", json!(config.models.max_ttl.as_secs())),
        ("BatchReport", "files", "maxItems", max_files),
    ];
    if config.webhooks.secrets.is_empty()
        && let Some(fields) = schemas.get_mut("NewJob").map(|it| &mut it["properties"])
    {
        // Refused where none are sent.
        fields.as_object_mut().map(|it| it.remove("webhook_url"));
    }
    for (schema, field, limit, value) in limits {
        if let Some(schema) = schemas.get_mut(schema) {
            schema["properties"][field][limit] = value;
        }
    }
}
