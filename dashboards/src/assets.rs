//! The embedded files, each with its type, its tag and its compressed form.
//!
//! Read once, when the router is built. Compressing here instead of committing `.gz` files keeps the
//! committed `dist/` comparable byte for byte, whatever zlib Node was built with.

use std::io::Write;

use axum::body::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

/// Below this a compressed file saves nothing worth a header.
const GZIP_BYTES_MIN: usize = 512;

#[derive(RustEmbed)]
#[folder = "dist/"]
struct Dist;

/// A file of the page.
pub(crate) struct Asset {
    /// Name under `dist/`, and path on the server.
    pub(crate) name: String,
    /// Media type.
    pub(crate) content_type: &'static str,
    /// As built.
    pub(crate) plain: Bytes,
    /// Compressed, where that is smaller.
    pub(crate) gzip: Option<Bytes>,
    /// Strong tag of the plain form.
    pub(crate) etag: String,
    /// Strong tag of the compressed form.
    pub(crate) etag_gzip: String,
}

/// Every embedded file, by name.
pub(crate) fn all() -> Vec<Asset> {
    let mut names: Vec<_> = Dist::iter().collect();
    names.sort();
    names.iter().filter_map(|name| asset(name)).collect()
}

fn asset(name: &str) -> Option<Asset> {
    let file = Dist::get(name)?;
    let hash: String = file.metadata.sha256_hash()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(Asset {
        name: name.to_owned(),
        content_type: content_type(name),
        gzip: compressed(&file.data),
        plain: Bytes::from(file.data.into_owned()),
        etag: format!("\"{hash}\""),
        etag_gzip: format!("\"{hash}-gzip\""),
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn compressed(plain: &[u8]) -> Option<Bytes> {
    if plain.len() < GZIP_BYTES_MIN {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::new(6));
    encoder.write_all(plain).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < plain.len()).then(|| Bytes::from(packed))
}
