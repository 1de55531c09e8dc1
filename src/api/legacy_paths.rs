//! A second path for the same handlers, in the router and in the API document at once.

use utoipa::openapi::{Deprecated, path::Paths};
use utoipa_axum::router::UtoipaMethodRouter;

/// What the document files aliases under: the deployed front-end calls them.
pub(crate) const ALIAS_TAG: &str = "front-end";

/// `routes!(…)` at `path` in place of the path that its handlers name.
pub(crate) fn also_at<S>(
    path: &str,
    (schemas, paths, methods): UtoipaMethodRouter<S>,
) -> UtoipaMethodRouter<S> {
    let mut moved = Paths::new();
    for (_, mut item) in paths.paths {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.tags = Some(vec![ALIAS_TAG.to_owned()]);
            operation.deprecated = Some(Deprecated::True);
        }
        moved.paths.insert(path.to_owned(), item);
    }
    (schemas, moved, methods)
}
