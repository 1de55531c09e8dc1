//! Settings of cross-origin requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which browsers may call.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins of browsers that may call, such as `https://app.example.com`; `*` for all.
    pub origins: Vec<String>,
}
