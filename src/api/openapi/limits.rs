//! Copies limits from the settings into the schemas.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::Config;

pub(super) fn apply_config_limits(schemas: &mut Map<String, Value>, config: &Config) {
    let max_files = json!(config.jobs.max_files);
    let min_limits = config.rate_limit.min_limits(config.jobs.max_files);
    let key_limits = json!(
        min_limits
            .map(|(policy, min)| {
                (policy, json!({"type": "integer", "minimum": min, "maximum": u32::MAX}))
            })
            .collect::<BTreeMap<_, _>>()
    );
    let limits = [
        ("NewKeyBody", "roles", "minItems", json!(1)),
        ("NewKeyBody", "limits", "properties", key_limits.clone()),
        ("NewKeyBody", "limits", "additionalProperties", json!(false)),
        ("LimitsBody", "limits", "properties", key_limits),
        ("LimitsBody", "limits", "additionalProperties", json!(false)),
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
        && let Some(fields) = schemas.get_mut("NewJob").map(|schema| &mut schema["properties"])
    {
        // Without a secret, requests with a webhook URL are rejected.
        fields.as_object_mut().map(|fields| fields.remove("webhook_url"));
    }
    for (schema, field, limit, value) in limits {
        if let Some(schema) = schemas.get_mut(schema) {
            schema["properties"][field][limit] = value;
        }
    }
}
