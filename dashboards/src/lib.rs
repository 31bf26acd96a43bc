//! The web dashboard: one page, embedded in the binary.
//!
//! The last station of the flow: a browser loads these files and asks the REST API for everything else.
//! Guarantees: the page works without any other host (no CDN, no external font), a browser that has a file
//! already gets 304, and no script but ours can run in it. Deliberately not here: any figure, any query, the
//! check of Host and Origin (one layer over the whole port), Node — `dist/` is built and committed
//! (`npm run build` in `web/`, compared in CI).
//!
//! | file | from |
//! |---|---|
//! | `dist/index.html`, `app.js`, `app.css`, `icon.svg`, `licenses.txt` | `web/src`, by esbuild |

#![forbid(unsafe_code)]

mod assets;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use spanledger_access::routes::{Need, RouteRule};

use crate::assets::Asset;

/// What the page may do: load its own files and ask its own server. uPlot and Preact set styles through the
/// DOM, which this allows; inline script and style it does not.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A new release has new files under the same names: ask each time, 304 is cheap.
const CACHE_CONTROL: &str = "no-cache";

/// The files of the page. They hold no figure, and the page must load before anyone can sign in.
pub const ROUTES: &[RouteRule] = &[
    RouteRule::new("GET", "/", Need::Public),
    RouteRule::new("GET", "/index.html", Need::Public),
    RouteRule::new("GET", "/app.js", Need::Public),
    RouteRule::new("GET", "/app.css", Need::Public),
    RouteRule::new("GET", "/icon.svg", Need::Public),
    RouteRule::new("GET", "/licenses.txt", Need::Public),
];

/// The page at `/` and its files beside it, as [`ROUTES`] lists them.
pub fn router() -> Router {
    let assets: Vec<_> = assets::all().into_iter().map(Arc::new).collect();
    let mut router = Router::new();
    for rule in ROUTES {
        let name = if rule.path == "/" {
            "index.html"
        } else {
            rule.path.trim_start_matches('/')
        };
        let Some(asset) = assets.iter().find(|asset| asset.name == name).cloned() else {
            continue;
        };
        router = router.route(
            rule.path,
            get(move |headers: HeaderMap| async move { answer(&asset, &headers) }),
        );
    }
    router
}

/// The file, compressed where the browser takes it, or 304 where it has it.
fn answer(asset: &Asset, request: &HeaderMap) -> Response {
    let gzip = asset.gzip.as_ref().filter(|_| accepts_gzip(request));
    let etag = if gzip.is_some() { &asset.etag_gzip } else { &asset.etag };
    let mut response = if has(request, etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        gzip.unwrap_or(&asset.plain).clone().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    if gzip.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    for (name, value) in [
        (header::VARY, "accept-encoding"),
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// True where `If-None-Match` names the file's tag.
fn has(request: &HeaderMap, etag: &str) -> bool {
    let tags = request.get_all(header::IF_NONE_MATCH).iter();
    tags.filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// True where `Accept-Encoding` takes gzip and does not weigh it 0.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let codings = request.get_all(header::ACCEPT_ENCODING).iter();
    codings
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
            let weight = weight
                .trim()
                .strip_prefix("q=")
                .and_then(|text| text.parse::<f32>().ok());
            name.trim().eq_ignore_ascii_case("gzip") && weight.unwrap_or(1.0) > 0.0
        })
}

#[cfg(test)]
mod tests;
