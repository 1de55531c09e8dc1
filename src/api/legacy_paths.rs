//! Legacy path aliases: a second path for the same handlers, in the router and in the OpenAPI document.

use utoipa::openapi::{Deprecated, path::Paths};
use utoipa_axum::router::UtoipaMethodRouter;

/// OpenAPI tag of the aliases, which the deployed front-end calls.
pub(crate) const LEGACY_TAG: &str = "front-end";

/// Serves the handlers of `routes!(…)` at `path` instead of the path that they declare.
pub(crate) fn alias_at<S>(
    path: &str,
    (schemas, paths, methods): UtoipaMethodRouter<S>,
) -> UtoipaMethodRouter<S> {
    let mut moved = Paths::new();
    for (_, mut item) in paths.paths {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.tags = Some(vec![LEGACY_TAG.to_owned()]);
            operation.deprecated = Some(Deprecated::True);
        }
        moved.paths.insert(path.to_owned(), item);
    }
    (schemas, moved, methods)
}
