//! `/api/v1/admin/cache/invalidate`: remove cached values by tag or by pattern.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        extract::{Json, auth::Admin},
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
struct Invalidation {
    /// Every value that has it.
    tag: Option<String>,
    /// Or every value whose key matches, a glob that begins with `cache:`.
    pattern: Option<String>,
    /// Of an answer that was not complete.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CacheInvalidated, example = json!({"removed": 12, "complete": true}))]
struct Invalidated {
    /// How many there were.
    removed: u64,
    /// Whether all keys were seen.
    complete: bool,
    /// With which to ask again for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Remove cached values by tag or by pattern
///
/// By tag it is one step; by pattern it goes in batches, and may have to be asked again with the `cursor` it answers.
#[utoipa::path(post, path = "/api/v1/admin/cache/invalidate", tag = "admin", security(("key" = ["admin"])),
    request_body = Invalidation, responses((status = 200, body = Invalidated)))]
async fn invalidate(
    State(cache): State<Cache>,
    _: Admin,
    Json(what): Json<Invalidation>,
) -> Result<Json<Invalidated>, Problem> {
    let cursor = what.cursor.as_deref().unwrap_or("0").parse();
    let removed = match (what.tag, what.pattern, cursor) {
        (Some(tag), None, Ok(0)) => {
            let tag: Tag = tag.parse()?;
            Removed { n: cache.invalidate_tag(&tag).await?, cursor: None }
        }
        (None, Some(pattern), Ok(cursor)) => {
            cache.invalidate_pattern(&Pattern::try_from(pattern)?, cursor).await?
        }
        _ => {
            return Err(Problem::invalid(
                "the body has to say either tag or pattern, the latter with the cursor of the last answer if any",
            ));
        }
    };
    Ok(Json(Invalidated {
        removed: removed.n,
        complete: removed.cursor.is_none(),
        cursor: removed.cursor.map(|it| it.to_string()),
    }))
}
