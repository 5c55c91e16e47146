//! What a simulated site system answers to which request.
//!
//! Enough of the real thing for a client to tell that it reached it; no decision about who may.

use std::ops::Range;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, RANGE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{Either, Full};

use super::content::{Content, ContentBody};

/// What is sent back.
pub(super) type Body = Either<Full<Bytes>, ContentBody>;

const XML: &str = "text/xml; charset=utf-8";

const MPLIST: &str = "<MPList><MP Name=\"MP01.CONTOSO.COM\" FQDN=\"mp01.contoso.com\">\
    <Version>9128</Version><Capabilities SchemaVersion=\"1.0\">\
    <Property Name=\"SSLState\" Value=\"0\"/></Capabilities></MP></MPList>";

const POLICY: &str = "<?xml version=\"1.0\"?>\
    <Policy PolicyType=\"Machine\" PolicyID=\"{00000000-0000-0000-0000-000000000001}\" \
    PolicyVersion=\"1.00\"><PolicyRule PolicyRuleID=\"{1}\"/></Policy>";

/// The answer to a request whose body was read already.
pub(super) fn answer(head: &Parts, body: Bytes) -> Response<Body> {
    let path = head.uri.path().to_ascii_lowercase();
    let method = head.method.as_str();
    if let Some((package, file)) = content_of(&path) {
        return distribution_point(head, &path, package, file);
    }
    match (method, path.as_str()) {
        ("GET" | "HEAD", "/sms_mp/.sms_aut") => page(XML, MPLIST),
        ("GET" | "HEAD", "/sms_mp/.sms_pol" | "/sms_mp/.sms_dcm") => page(XML, POLICY),
        ("GET" | "HEAD", p) if p.starts_with("/sms_mp_tokenauth/") => page(XML, POLICY),
        ("GET" | "HEAD", p) if p.starts_with("/ccm_client/") => client_package(method, p),
        ("CCM_POST", "/ccm_system/request" | "/ccm_system_tokenauth/request") => echo(head, body),
        (_, p) if p == "/ccm_sts" || p.starts_with("/ccm_sts/") => {
            page("application/json", "{\"access_token\":\"simulated\",\"token_type\":\"bearer\"}")
        }
        (_, p) if p.starts_with("/cmuserservice/") => page(XML, "<Applications/>"),
        ("BITS_POST", p) if p.starts_with("/ccm_incoming/") => {
            let mut accepted = page("text/plain", "");
            accepted.headers_mut().insert("BITS-Packet-Type", HeaderValue::from_static("Ack"));
            accepted
        }
        (_, p) if p.starts_with("/sms_fsp/") => page("text/plain", ""),
        // Another application on the same web server, of which no role knows.
        ("GET" | "HEAD", p) if p.starts_with("/reports/") => page("text/html", "<h1>Reports</h1>"),
        _ => plain(StatusCode::NOT_FOUND),
    }
}

fn client_package(method: &str, path: &str) -> Response<Body> {
    let content = Content::of("ccm_client", path);
    let mut answer = file(&content, 0..content.len, method == "HEAD");
    let kind = HeaderValue::from_static("application/vnd.ms-cab-compressed");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Package and file of a path in a content namespace.
fn content_of(path: &str) -> Option<(&str, &str)> {
    ["/sms_dp_smspkg$/", "/ccmtokenauth_sms_dp_smspkg$/"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
}

fn distribution_point(head: &Parts, path: &str, package: &str, name: &str) -> Response<Body> {
    match head.method {
        Method::GET | Method::HEAD if name.is_empty() => page("text/html", "<html/>"),
        Method::GET | Method::HEAD => ranged(head, &Content::of(package, name)),
        _ if head.method.as_str() == "PROPFIND" => listing(head, path),
        _ => {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED);
            let allowed = HeaderValue::from_static("GET, HEAD, PROPFIND");
            answer.headers_mut().insert(ALLOW, allowed);
            answer
        }
    }
}

/// As a distribution point lists: absolute, and http.
fn listing(head: &Parts, path: &str) -> Response<Body> {
    let host = head.headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
    let text = format!(
        "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\"><D:response>\
         <D:href>http://{host}{path}</D:href><D:propstat><D:status>HTTP/1.1 200 OK</D:status>\
         </D:propstat></D:response></D:multistatus>"
    );
    let mut answer = page(XML, &text);
    *answer.status_mut() = StatusCode::MULTI_STATUS;
    answer
}

fn ranged(head: &Parts, content: &Content) -> Response<Body> {
    let is_head = head.method == Method::HEAD;
    let wanted = head.headers.get(RANGE).and_then(|value| value.to_str().ok());
    let Some(wanted) = wanted.filter(|w| w.starts_with("bytes=") && !w.contains(',')) else {
        // A server may ignore what it does not do (RFC 9110 §14.2).
        return file(content, 0..content.len, is_head);
    };
    match range(wanted, content.len) {
        Some(range) => {
            let told = format!("bytes {}-{}/{}", range.start, range.end - 1, content.len);
            let mut answer = file(content, range, is_head);
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut answer, CONTENT_RANGE, &told);
            answer
        }
        None => {
            let mut answer = plain(StatusCode::RANGE_NOT_SATISFIABLE);
            set(&mut answer, CONTENT_RANGE, &format!("bytes */{}", content.len));
            answer
        }
    }
}

/// `bytes=a-b`, `bytes=a-` and `bytes=-n` (RFC 9110 §14.1.2); never empty.
fn range(value: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => len.saturating_sub(suffix.parse().ok()?)..len,
        (first, "") => first.parse().ok()?..len,
        (first, last) => first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?.min(len),
    };
    (range.start < range.end).then_some(range)
}

fn file(content: &Content, range: Range<u64>, is_head: bool) -> Response<Body> {
    let len = range.end.saturating_sub(range.start);
    let body = match is_head {
        true => Either::Left(Full::default()),
        false => Either::Right(content.body(range)),
    };
    let mut answer = Response::new(body);
    set(&mut answer, CONTENT_LENGTH, &len.to_string());
    set(&mut answer, CONTENT_TYPE, "application/octet-stream");
    set(&mut answer, ACCEPT_RANGES, "bytes");
    set(&mut answer, ETAG, &format!("\"{:x}\"", content.tag()));
    answer
}

/// What came, as it came.
fn echo(head: &Parts, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        answer.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    answer
}

fn page(kind: &'static str, text: &str) -> Response<Body> {
    let mut answer =
        Response::new(Either::Left(Full::new(Bytes::copy_from_slice(text.as_bytes()))));
    set(&mut answer, CONTENT_TYPE, kind);
    answer
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = status;
    answer
}

fn set(answer: &mut Response<Body>, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_are_read_as_the_standard_has_them() {
        assert_eq!(range("bytes=0-9", 100), Some(0..10));
        assert_eq!(range("bytes=90-", 100), Some(90..100));
        assert_eq!(range("bytes=-5", 100), Some(95..100));
        assert_eq!(range("bytes=90-500", 100), Some(90..100));
        for none in ["bytes=100-", "bytes=9-5", "bytes=-0", "bytes=x-y", "lines=1-2"] {
            assert_eq!(range(none, 100), None, "{none}");
        }
    }
}
