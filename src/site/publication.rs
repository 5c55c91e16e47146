//! Publishes CRLs and issuer certificates over HTTP for clients that check a certificate. Nothing
//! else of the state directory is public.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::secret::read_bounded;

/// The largest file, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// CRLs are renewed at least daily; a cache may add an hour.
const CACHED: &str = "public, max-age=3600";

/// The files of `authority/crl` below `path`, read on each request.
pub fn publication(state: &Path, path: &str) -> Router {
    let dir: Arc<PathBuf> = Arc::new(state.join("authority").join("crl"));
    Router::new().route(&format!("{path}/{{file}}"), get(file)).with_state(dir)
}

async fn file(
    State(dir): State<Arc<PathBuf>>,
    axum::extract::Path(name): axum::extract::Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(kind) = kind(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let Ok((bytes, _)) = read_bounded(&dir.join(&name), FILE_BYTES_MAX) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let tag: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let fields = [(CONTENT_TYPE, kind), (CACHE_CONTROL, CACHED), (ETAG, tag.as_str())];
    let asked = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if asked.is_some_and(|tags| tags.split(',').any(|had| had.trim() == tag)) {
        (StatusCode::NOT_MODIFIED, fields).into_response()
    } else {
        (fields, bytes.to_vec()).into_response()
    }
}

/// The media type of a published file (RFC 5280 §4.2.1.13, RFC 2585 §4); `None` for files that are
/// never published.
fn kind(name: &str) -> Option<&'static str> {
    let (stem, kind) = match name.rsplit_once('.')? {
        (stem, "crl") => (stem, "application/pkix-crl"),
        (stem, "cer") => (stem, "application/pkix-cert"),
        _ => return None,
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    ((1..=64).contains(&stem.len()) && stem.bytes().all(plain)).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_and_certificates_by_plain_names_are_published() {
        for name in ["root.crl", "role.cer", "root-2.crl"] {
            assert!(kind(name).is_some(), "{name}");
        }
        for name in ["root.key", "root", ".crl", "../root.crl", "a/b.crl", "Root.crl", "x.crl.tmp"]
        {
            assert_eq!(kind(name), None, "{name}");
        }
    }
}
