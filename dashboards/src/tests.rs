//! The page over its router: types, tags, policy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use flate2::read::GzDecoder;
use tower::ServiceExt;

use super::*;

async fn get_with(path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (
        parts.status,
        parts.headers,
        to_bytes(body, 1 << 20).await.unwrap().to_vec(),
    )
}

#[test]
fn every_embedded_file_has_a_rule() {
    for asset in assets::all() {
        let path = format!("/{}", asset.name);
        assert!(ROUTES.iter().any(|rule| rule.path == path), "{path}");
    }
}

#[tokio::test]
async fn every_file_of_the_page_is_served_with_its_type_and_policy() {
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/app.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/licenses.txt", "text/plain; charset=utf-8"),
    ] {
        let (status, headers, body) = get_with(path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(headers["content-type"], content_type, "{path}");
        assert!(
            headers["content-security-policy"]
                .to_str()
                .unwrap()
                .starts_with("default-src 'self'")
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(!body.is_empty(), "{path}");
    }
    assert_eq!(get_with("/nothing", &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_names_only_its_own_files_and_has_nothing_inline() {
    let page = String::from_utf8(get_with("/", &[]).await.2).unwrap();
    for reference in ["href=\"", "src=\""] {
        for target in page.split(reference).skip(1) {
            let target = target.split('"').next().unwrap();
            let (status, ..) = match target.strip_prefix("api/") {
                Some(_) => continue,
                None => get_with(&format!("/{target}"), &[]).await,
            };
            assert_eq!(status, StatusCode::OK, "{target}");
        }
    }
    assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onload="));
    assert_eq!(
        page.matches("<script").count(),
        page.matches("<script type=\"module\" src=").count()
    );
}

#[tokio::test]
async fn a_browser_that_has_a_file_gets_304_in_the_same_encoding() {
    let (_, plain, body) = get_with("/app.js", &[]).await;
    let (_, packed, small) = get_with("/app.js", &[("accept-encoding", "br, gzip;q=0.8")]).await;
    assert_eq!(packed["content-encoding"], "gzip");
    assert_ne!(plain["etag"], packed["etag"]);
    let mut unpacked = Vec::new();
    GzDecoder::new(small.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, body);
    assert!(small.len() < 150 * 1024, "the page has a ceiling of 150 KB");

    let tag = plain["etag"].to_str().unwrap();
    for value in [tag.to_owned(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let (status, _, body) = get_with("/app.js", &[("if-none-match", &value)]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{value}");
    }
    let (status, headers, _) = get_with(
        "/app.js",
        &[("if-none-match", "\"other\""), ("accept-encoding", "gzip;q=0")],
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert!(!headers.contains_key("content-encoding"));
}
