//! The response to a refused request: status, reason phrase, challenge and a problem document (RFC
//! 9457). The same for every client, and without any client input.

use crate::denial::Denial;
use crate::gateway::record::ctx::RequestCtx;

/// The response to a refused request, independent of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The HTTP/1.1 reason phrase.
    pub reason: String,
    /// The header fields, without those that frame the body.
    pub fields: Vec<(&'static str, String)>,
    /// The problem document.
    pub body: String,
}

/// Checks whether a connection closes after a refusal, even if the request was read completely:
/// after a malformed request, the bytes that follow cannot be trusted.
pub fn ends_connection(denial: Denial) -> bool {
    let read_whole = matches!(denial, Denial::MessageMalformed | Denial::MessageSource);
    let limited = denial.code().starts_with("limit.") && denial != Denial::LimitInFlight;
    (denial.status() == 400 && !read_whole)
        || limited
        || denial.code().starts_with("framing.")
        || denial == Denial::HostMisdirected
}

/// Builds the response to a refused request.
pub fn refusal(denial: Denial, ctx: &RequestCtx) -> Reply {
    let request_id = &ctx.id.to_string();
    let mut fields = vec![
        ("Content-Type", "application/problem+json".to_owned()),
        ("Cache-Control", "no-store".to_owned()),
        ("X-Request-Id", request_id.to_owned()),
    ];
    if let Some(challenge) = denial.challenge() {
        fields.push(("WWW-Authenticate", challenge.to_owned()));
    }
    // RFC 9110 §10.2.3, in seconds.
    if denial == Denial::LimitInFlight {
        fields.push(("Retry-After", "5".to_owned()));
    }
    if let Some(allowed) = ctx.allowed_methods() {
        fields.push(("Allow", allowed));
    }
    if let Some(location) = ctx.refusal.moved.clone().filter(|_| denial == Denial::ClearRedirected)
    {
        fields.push(("Location", location));
    }
    // Code, title and id need no escaping: the first two are ours, the last is hexadecimal.
    let body = format!(
        "{{\"type\":\"urn:sitegate:denial:{code}\",\"title\":\"{title}\",\"status\":{status},\
         \"code\":\"{code}\",\"request_id\":\"{request_id}\"}}\n",
        code = denial.code(),
        title = denial.title().replace('"', "'"),
        status = denial.status(),
    );
    Reply { status: denial.status(), reason: denial.reason_phrase(), fields, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_denial_is_a_problem_document_with_its_code() {
        for denial in Denial::ALL {
            let ctx = RequestCtx::new();
            let reply = refusal(*denial, &ctx);
            let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
            assert_eq!(body["code"], denial.code());
            assert_eq!(body["request_id"], ctx.id.to_string());
            assert_eq!(body["status"], denial.status());
        }
    }

    #[test]
    fn a_missing_token_is_challenged_without_an_error() {
        let reply = refusal(Denial::TokenMissing, &RequestCtx::new());
        assert!(reply.fields.contains(&("WWW-Authenticate", "Bearer realm=\"sitegate\"".into())));
        assert_eq!(reply.reason, "EHTTP_Token_Missing");
    }
}
