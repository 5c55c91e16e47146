//! The rules for header fields, applied to pingora's heads.

use http::{HeaderValue, header};
use pingora_http::{RequestHeader, ResponseHeader};

use super::decide::Pass;
use super::headers::{self, RequestRules};
use super::policy::SitePolicy;
use super::view::fields_of;

/// Remove what the client may not say to the backend; `ours` says whether sitegate authenticates
/// itself there.
pub(super) fn remove_unsaid(
    asked: &RequestHeader,
    request: &mut RequestHeader,
    site: &SitePolicy,
    pass: &Pass,
    ours: bool,
) {
    let rules = RequestRules::new(fields_of(&asked.headers), &site.secrets, pass.credential())
        .asking_as_ourselves(ours);
    let values = |name: &header::HeaderName| {
        asked.headers.get_all(name).into_iter().map(|value| value.as_bytes())
    };
    let gone: Vec<header::HeaderName> = request
        .headers
        .keys()
        .filter(|name| !rules.passes(name.as_str(), values(name)))
        .cloned()
        .collect();
    for name in gone {
        request.remove_header(&name);
    }
    join_cookies(request);
}

/// HTTP/2 clients send cookies in crumbs, which are one field in HTTP/1.1 (RFC 9113 §8.2.3).
fn join_cookies(request: &mut RequestHeader) {
    let crumbs: Vec<&[u8]> =
        request.headers.get_all(header::COOKIE).iter().map(|crumb| crumb.as_bytes()).collect();
    if crumbs.len() < 2 {
        return;
    }
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        request.remove_header(&header::COOKIE);
        // The name is known and the value came from a header: this cannot fail.
        let _ = request.insert_header(header::COOKIE, whole);
    }
}

/// Remove what the backend may not say to the client.
pub(super) fn remove_from_answer(response: &mut ResponseHeader, windows: bool) {
    let nominated: Vec<HeaderValue> =
        response.headers.get_all(header::CONNECTION).iter().cloned().collect();
    let gone: Vec<header::HeaderName> = response
        .headers
        .keys()
        .filter(|name| {
            !headers::response_passes(name.as_str(), nominated.iter().map(|v| v.as_bytes()))
        })
        .cloned()
        .collect();
    for name in gone {
        response.remove_header(&name);
    }
    let challenges = response.headers.get_all(header::WWW_AUTHENTICATE);
    if !windows && challenges.iter().any(|c| headers::windows_challenge(c.as_bytes())) {
        let kept: Vec<HeaderValue> = challenges
            .iter()
            .filter(|c| !headers::windows_challenge(c.as_bytes()))
            .cloned()
            .collect();
        response.remove_header(&header::WWW_AUTHENTICATE);
        for challenge in kept {
            // The name is known and the value came from a header: this cannot fail.
            let _ = response.append_header(header::WWW_AUTHENTICATE, challenge);
        }
    }
}
