//! Settings of cross-origin requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cross-origin requests of browsers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Allowed origins, such as `https://app.example.com`; `*` allows all.
    pub origins: Vec<String>,
}
