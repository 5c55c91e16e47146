//! Responses of a simulated distribution point: whole files and ranges, and listings with absolute
//! http links.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::{Either, Full};
use std::ops::Range;

use super::answer::{SimBody, XML, bytes, error, page, set};
use super::host;
use super::multipart::{self, WantedRanges};
use super::shelf::{Shelf, ShelfFile};
use crate::content::{Content, ContentSource};

const NAMESPACES: [&str; 6] = [
    "sms_dp_smspkg$",
    "ccmtokenauth_sms_dp_smspkg$",
    "nocert_sms_dp_smspkg$",
    "sms_dp_smssig$",
    "ccmtokenauth_sms_dp_smssig$",
    "nocert_sms_dp_smssig$",
];
const BYTES: &str = "application/octet-stream";

/// Whether a path, in lower case, is in a content namespace.
pub(super) fn is_content(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    NAMESPACES.contains(&first)
}

/// The response of a distribution point.
pub(super) fn answer(head: &Parts, shelf: &Shelf) -> Response<SimBody> {
    let path = head.uri.path();
    let lists = head.method.as_str() == "PROPFIND";
    if !lists && !matches!(head.method, Method::GET | Method::HEAD) {
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED);
        set(&mut answer, ALLOW, "GET, HEAD, PROPFIND");
        return answer;
    }
    let inside = path.trim_start_matches('/').split_once('/').map_or("", |(_, inside)| inside);
    match shelf.find(inside) {
        Some(ShelfFile::File(_)) if lists => properties(head, &[]),
        Some(ShelfFile::Folder(names)) if lists => properties(head, &names),
        Some(ShelfFile::File(source)) => ranged(head, &source, BYTES),
        Some(ShelfFile::Folder(names)) => listing(head, &names),
        None => error(StatusCode::NOT_FOUND),
    }
}

/// A file of the client installation package.
pub(super) fn client_package(head: &Parts, path: &str) -> Response<SimBody> {
    let source = ContentSource::Made(Content::of("ccm_client", path));
    ranged(head, &source, "application/vnd.ms-cab-compressed")
}

/// Links as distribution points write them: absolute, and http.
fn links(head: &Parts, names: &[String]) -> Vec<String> {
    let base = format!("http://{}{}", host(head), head.uri.path().trim_end_matches('/'));
    names.iter().map(|name| format!("{base}/{}", name.replace(' ', "%20"))).collect()
}

fn listing(head: &Parts, names: &[String]) -> Response<SimBody> {
    let links = links(head, names);
    let links: String = links.iter().map(|l| format!("<a href=\"{l}\">{l}</a><br>")).collect();
    page("text/html", &format!("<html><body>{links}</body></html>"))
}

fn properties(head: &Parts, names: &[String]) -> Response<SimBody> {
    let own = format!("http://{}{}", host(head), head.uri.path());
    let all = std::iter::once(own).chain(links(head, names));
    let each = all.map(|link| {
        format!(
            "<D:response><D:href>{link}</D:href><D:propstat><D:status>HTTP/1.1 200 OK</D:status>\
             </D:propstat></D:response>"
        )
    });
    let each: String = each.collect();
    let text =
        format!("<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">{each}</D:multistatus>");
    let mut answer = page(XML, &text);
    *answer.status_mut() = StatusCode::MULTI_STATUS;
    answer
}

fn ranged(head: &Parts, source: &ContentSource, kind: &str) -> Response<SimBody> {
    let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let (is_head, len) = (head.method == Method::HEAD, source.len());
    let tag = format!("\"{:x}\"", source.tag());
    // A range of another version than the client has is useless to it (RFC 9110 §13.1.5).
    let same = field(IF_RANGE).is_none_or(|has| has == tag);
    let wanted = match field(RANGE).filter(|_| same) {
        Some(range) => multipart::wanted(range, len),
        None => WantedRanges::Whole,
    };
    let mut answer = match wanted {
        WantedRanges::Whole => file(source, 0..len, is_head, kind),
        WantedRanges::One(range) => {
            let place = format!("bytes {}-{}/{len}", range.start, range.end - 1);
            let mut answer = file(source, range, is_head, kind);
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut answer, CONTENT_RANGE, &place);
            answer
        }
        WantedRanges::Several(parts) => {
            match multipart::body(kind, len, &parts, |range| source.bytes(range)) {
                Ok(body) => several(body, is_head),
                Err(_) => return error(StatusCode::INTERNAL_SERVER_ERROR),
            }
        }
        WantedRanges::Nothing => {
            let mut answer = error(StatusCode::RANGE_NOT_SATISFIABLE);
            set(&mut answer, CONTENT_RANGE, &format!("bytes */{len}"));
            return answer;
        }
    };
    set(&mut answer, ACCEPT_RANGES, "bytes");
    set(&mut answer, ETAG, &tag);
    answer
}

fn several(body: Bytes, is_head: bool) -> Response<SimBody> {
    let len = body.len();
    let body = if is_head { Bytes::new() } else { body };
    let kind = format!("multipart/byteranges; boundary=\"{}\"", multipart::BOUNDARY);
    let mut answer = bytes(&kind, body);
    set(&mut answer, CONTENT_LENGTH, &len.to_string());
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    answer
}

fn file(source: &ContentSource, range: Range<u64>, is_head: bool, kind: &str) -> Response<SimBody> {
    let len = range.end.saturating_sub(range.start);
    let body =
        if is_head { Either::Left(Full::default()) } else { Either::Right(source.body(range)) };
    let mut answer = Response::new(body);
    set(&mut answer, CONTENT_LENGTH, &len.to_string());
    set(&mut answer, CONTENT_TYPE, kind);
    answer
}
