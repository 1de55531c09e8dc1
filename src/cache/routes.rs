//! `/api/v1/admin/cache/invalidate`: remove cached values by tag or by pattern.

use axum::{Router, extract::State, routing::post};
use serde::{Deserialize, Serialize};

use super::{
    Cache,
    invalidate::{Pattern, Removed},
};
use crate::{
    auth::Admin,
    http::{Json, Problem},
    ids::Tag,
    state::AppState,
};

pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/api/v1/admin/cache/invalidate", post(invalidate))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalidation {
    tag: Option<String>,
    pattern: Option<String>,
    /// Of an answer that was not complete.
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Invalidated {
    removed: u64,
    complete: bool,
    /// With which to ask again for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

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
