//! What the access log knows of one request. The JSON format has all fields.
//!
//! Never contains a token, a query or a header beyond those named here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use serde::Serialize;

/// The maximum length of a field from a client: longer values are truncated.
pub(super) const FIELD_CHARS_MAX: usize = 512;

/// A log entry for one request.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "docs/access-log.md has a row for each field")]
pub struct Access<'a> {
    pub time: Timestamp,
    pub request_id: &'a str,
    pub site_system: &'a str,
    pub client: IpAddr,
    #[serde(skip)]
    pub local: Option<SocketAddr>,
    pub connection: u64,
    pub protocol: &'a str,
    pub tls: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short_some")]
    pub host: Option<&'a str>,
    #[serde(serialize_with = "short")]
    pub method: &'a str,
    #[serde(serialize_with = "short")]
    pub path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short_some")]
    pub user_agent: Option<&'a str>,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substatus: Option<u8>,
    pub decision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short_some")]
    pub detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short_some")]
    pub kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_connect_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_first_byte_ms: Option<f64>,
    pub received: usize,
    pub sent: usize,
    pub duration_ms: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

impl Access<'_> {
    /// Nothing is known.
    pub fn unread() -> Self {
        Access {
            time: Timestamp::UNIX_EPOCH,
            request_id: "",
            site_system: "",
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            local: None,
            connection: 0,
            protocol: "HTTP/1.1",
            tls: "",
            sni: None,
            host: None,
            method: "",
            path: "",
            user_agent: None,
            status: 0,
            substatus: None,
            decision: "denied",
            reason: None,
            detail: None,
            route: None,
            issuer: None,
            device: None,
            user: None,
            origin_issuer: None,
            origin_subject: None,
            purpose: None,
            token_id: None,
            token: None,
            kid: None,
            certificate: None,
            upstream: None,
            upstream_status: None,
            upstream_connect_ms: None,
            upstream_first_byte_ms: None,
            received: 0,
            sent: 0,
            duration_ms: 0.0,
            incomplete: false,
        }
    }
}

fn short<S: serde::Serializer>(text: &str, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(cut(text, FIELD_CHARS_MAX))
}

fn short_some<S: serde::Serializer>(text: &Option<&str>, s: S) -> Result<S::Ok, S::Error> {
    match text {
        Some(text) => s.serialize_some(cut(text, FIELD_CHARS_MAX)),
        None => s.serialize_none(),
    }
}

/// At most this many characters of a text.
pub(super) fn cut(text: &str, chars: usize) -> &str {
    match text.char_indices().nth(chars) {
        Some((at, _)) => text.get(..at).unwrap_or(text),
        None => text,
    }
}
