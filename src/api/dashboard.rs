//! `/`, `/docs` and `/web/*`: the dashboard and the API page, compiled into the binary. Their content security policy
//! allows only files of this service.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::{api::state::AppState, settings::Environment};

/// A sample model, the result of simulated workers.
pub(crate) const SAMPLE_MODEL: &[u8] = include_bytes!("../../web/cube.glb");
pub(crate) const SAMPLE_MODEL_PATH: &str = "/web/cube.glb";

const INDEX: &str = include_str!("../../web/index.html");
/// Placeholder in a page for the API key that is filled in.
const KEY: &str = "{{key}}";
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const DOCS: &str = include_str!("../../web/docs.html");
const FILES: &[(&str, &str, &[u8])] = &[
    (SAMPLE_MODEL_PATH, "model/gltf-binary", SAMPLE_MODEL),
    ("/web/actions.js", JAVASCRIPT, include_bytes!("../../web/actions.js")),
    ("/web/api.js", JAVASCRIPT, include_bytes!("../../web/api.js")),
    ("/web/confirm-dialog.js", JAVASCRIPT, include_bytes!("../../web/confirm-dialog.js")),
    ("/web/connection.js", JAVASCRIPT, include_bytes!("../../web/connection.js")),
    ("/web/cube.svg", SVG, include_bytes!("../../web/cube.svg")),
    ("/web/docs-markdown.js", JAVASCRIPT, include_bytes!("../../web/docs-markdown.js")),
    ("/web/docs-schema.js", JAVASCRIPT, include_bytes!("../../web/docs-schema.js")),
    ("/web/docs.css", CSS, include_bytes!("../../web/docs.css")),
    ("/web/docs.js", JAVASCRIPT, include_bytes!("../../web/docs.js")),
    ("/web/dom.js", JAVASCRIPT, include_bytes!("../../web/dom.js")),
    ("/web/format.js", JAVASCRIPT, include_bytes!("../../web/format.js")),
    ("/web/icon.svg", SVG, include_bytes!("../../web/icon.svg")),
    ("/web/job-file.js", JAVASCRIPT, include_bytes!("../../web/job-file.js")),
    ("/web/job-list.js", JAVASCRIPT, include_bytes!("../../web/job-list.js")),
    ("/web/job-store.js", JAVASCRIPT, include_bytes!("../../web/job-store.js")),
    ("/web/job-view.js", JAVASCRIPT, include_bytes!("../../web/job-view.js")),
    ("/web/job.css", CSS, include_bytes!("../../web/job.css")),
    ("/web/job.js", JAVASCRIPT, include_bytes!("../../web/job.js")),
    ("/web/jobs.css", CSS, include_bytes!("../../web/jobs.css")),
    ("/web/main.js", JAVASCRIPT, include_bytes!("../../web/main.js")),
    ("/web/new-job.js", JAVASCRIPT, include_bytes!("../../web/new-job.js")),
    ("/web/operator-activity.js", JAVASCRIPT, include_bytes!("../../web/operator-activity.js")),
    ("/web/operator-cleanup.js", JAVASCRIPT, include_bytes!("../../web/operator-cleanup.js")),
    ("/web/operator-health.js", JAVASCRIPT, include_bytes!("../../web/operator-health.js")),
    ("/web/operator.css", CSS, include_bytes!("../../web/operator.css")),
    ("/web/operator.js", JAVASCRIPT, include_bytes!("../../web/operator.js")),
    ("/web/sample-pictures.js", JAVASCRIPT, include_bytes!("../../web/sample-pictures.js")),
    ("/web/simulated-worker.js", JAVASCRIPT, include_bytes!("../../web/simulated-worker.js")),
    ("/web/stream.js", JAVASCRIPT, include_bytes!("../../web/stream.js")),
    ("/web/style.css", CSS, include_bytes!("../../web/style.css")),
    ("/web/table.js", JAVASCRIPT, include_bytes!("../../web/table.js")),
    ("/web/theme.js", JAVASCRIPT, include_bytes!("../../web/theme.js")),
    ("/web/timeline.js", JAVASCRIPT, include_bytes!("../../web/timeline.js")),
    ("/web/webhooks.js", JAVASCRIPT, include_bytes!("../../web/webhooks.js")),
];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves the pages and their files. In development, the pages contain an API key.
pub(crate) fn router(environment: Environment) -> Router<AppState> {
    let key = match environment {
        Environment::Development => "dev-key",
        Environment::Production => "",
    };
    let asset = |path, file, content_type, body| {
        let compiled = ETag::new(body, key);
        let asset = Arc::new(Asset { file, content_type, key, compiled });
        (path, get(move |headers: HeaderMap| async move { asset.respond(&headers) }))
    };
    let files = FILES.iter().map(|(path, content_type, body)| {
        asset(*path, path.trim_start_matches("/web/"), *content_type, *body)
    });
    let pages = [
        asset("/", "index.html", HTML, INDEX.as_bytes()),
        asset("/docs", "docs.html", HTML, DOCS.as_bytes()),
    ];
    pages
        .into_iter()
        .chain(files)
        .fold(Router::new(), |router, (path, route)| router.route(path, route))
}

struct Asset {
    file: &'static str,
    content_type: &'static str,
    key: &'static str,
    compiled: ETag,
}

#[derive(Clone)]
struct ETag {
    body: Bytes,
    etag: HeaderValue,
}

impl ETag {
    /// Replaces the placeholder in `file` by `key`.
    fn new(file: &[u8], key: &str) -> Self {
        let body = match std::str::from_utf8(file) {
            Ok(text) if text.contains(KEY) => Bytes::from(text.replace(KEY, key)),
            _ => Bytes::copy_from_slice(file),
        };
        Self { etag: weak_etag(&body), body }
    }
}

impl Asset {
    /// The compiled version. A debug build reads the source file first, so that a change of the page needs no build;
    /// the blocking read is acceptable there.
    fn etag(&self) -> ETag {
        if cfg!(debug_assertions) {
            let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/web/");
            if let Ok(file) = std::fs::read(format!("{sources}{}", self.file)) {
                return ETag::new(&file, self.key);
            }
        }
        self.compiled.clone()
    }

    fn respond(&self, request: &HeaderMap) -> Response {
        let ETag { body, etag } = self.etag();
        let known = request.get(header::IF_NONE_MATCH);
        let known = known.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_current = known.split(',').any(|tag| tag.trim().as_bytes() == etag.as_bytes());
        let mut response = if is_current {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let content_type =
                [(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type))];
            (content_type, body).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, etag);
        // Browsers revalidate every file, so that a page never combines files of two versions.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

/// A weak tag, because the same file is also sent compressed.
fn weak_etag(body: &[u8]) -> HeaderValue {
    let hex = HEXLOWER.encode(&Sha256::digest(body)[..16]);
    HeaderValue::try_from(format!("W/\"{hex}\""))
        .expect("hexadecimal digits are a valid header value")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_file_of_web_is_served() {
        let mut served: Vec<_> =
            FILES.iter().map(|(path, ..)| path.trim_start_matches("/web/").to_owned()).collect();
        served.extend(["index.html".to_owned(), "docs.html".to_owned()]);
        served.sort();
        let mut existing: Vec<_> = fs::read_dir("web")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        existing.sort();
        assert_eq!(served, existing);
    }

    #[test]
    fn a_browser_with_the_current_page_gets_304() {
        let compiled = ETag::new(b"a", "");
        let asset = Asset { file: "no such file", content_type: "text/css", key: "", compiled };
        let first = asset.respond(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);

        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(asset.respond(&headers).status(), StatusCode::NOT_MODIFIED);
        assert_ne!(weak_etag(b"a"), weak_etag(b"b"));
    }
}
