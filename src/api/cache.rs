//! `/api/v1/admin/cache/invalidate`: removes cached values by tag or by pattern.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{Json, auth::RequireAdmin},
        problem::Problem,
        state::AppState,
    },
    cache::{
        Cache,
        invalidate::{Pattern, Removed},
    },
    ids::Tag,
};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(invalidate))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CacheInvalidation, example = json!({"tag": "job:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"}))]
struct InvalidateRequest {
    /// Removes every value with this tag.
    tag: Option<String>,
    /// Removes every value whose key matches this glob, which must start with `cache:`.
    pattern: Option<String>,
    /// The `cursor` of an incomplete response.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CacheInvalidated, example = json!({"removed": 12, "complete": true}))]
struct InvalidateResponse {
    /// Number of removed values.
    removed: u64,
    /// Whether all keys were scanned.
    complete: bool,
    /// Continues an incomplete invalidation; send it with the same pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Remove cached values by tag or by pattern
///
/// Invalidation by tag is one step. Invalidation by pattern scans in batches; repeat the request with the returned
/// `cursor` until it is complete.
#[utoipa::path(post, path = "/api/v1/admin/cache/invalidate", tag = "admin", security(("key" = ["admin"])),
    request_body = InvalidateRequest, responses((status = 200, body = InvalidateResponse)))]
async fn invalidate(
    State(cache): State<Cache>,
    _: RequireAdmin,
    Json(request): Json<InvalidateRequest>,
) -> Result<Json<InvalidateResponse>, Problem> {
    let cursor = request.cursor.as_deref().unwrap_or("0").parse();
    let removed = match (request.tag, request.pattern, cursor) {
        (Some(tag), None, Ok(0)) => {
            let tag: Tag = tag.parse()?;
            Removed { n: cache.invalidate_tag(&tag).await?, cursor: None }
        }
        (None, Some(pattern), Ok(cursor)) => {
            cache.invalidate_pattern(&Pattern::try_from(pattern)?, cursor).await?
        }
        _ => {
            return Err(Problem::invalid(
                "the body must contain either tag or pattern; cursor is allowed with pattern only",
            ));
        }
    };
    Ok(Json(InvalidateResponse {
        removed: removed.n,
        complete: removed.cursor.is_none(),
        cursor: removed.cursor.map(|cursor| cursor.to_string()),
    }))
}
