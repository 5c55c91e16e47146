//! The caller of a token service request, as the gateway in front reports it: address, credentials,
//! certificate.
//!
//! The gateway removes these fields from clients' requests, and is the only one that can connect to
//! the service.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::rate::neighbourhood;

/// The field with the issuers that the site system in front accepts.
const ACCEPTED_ISSUERS: &str = "sitegate-accepted-issuers";

/// The caller of one request.
#[derive(Clone, Debug, Default)]
pub(in crate::site) struct Caller {
    /// The client's address; `None` if the gateway did not report it.
    pub address: Option<IpAddr>,
    /// The credentials of `Authorization: Bearer`. A secret.
    pub bearer: Option<Secret>,
    /// Whether there is an Authorization field, of any scheme.
    pub has_authorization: bool,
    /// Every `iss` that the receiving site system accepts; empty if the gateway did not report it.
    pub accepted_iss: Vec<String>,
    /// `x5t#S256` of the client certificate, if the site trusts it.
    pub good: Option<String>,
    /// `x5t#S256` of the client certificate with the key that the connection proved, trusted or
    /// not.
    pub proven: Option<String>,
}

/// Credentials that are not verified yet.
#[derive(Clone)]
pub(in crate::site) struct Secret(String);

impl Secret {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Caller {
    pub(in crate::site) fn of(headers: &HeaderMap) -> Self {
        let one = |name: &str| {
            let mut all = headers.get_all(name).iter();
            match (all.next(), all.next()) {
                (Some(only), None) => only.to_str().ok(),
                _ => None,
            }
        };
        let bearer = one(AUTHORIZATION.as_str()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| Secret(token.trim().to_owned()))
        });
        let accepted_iss = one(ACCEPTED_ISSUERS).unwrap_or_default();
        Caller {
            has_authorization: headers.contains_key(AUTHORIZATION),
            accepted_iss: accepted_iss.split_ascii_whitespace().map(str::to_owned).collect(),
            address: one("x-forwarded-for").and_then(|text| text.trim().parse().ok()),
            bearer,
            good: one("sitegate-client-cert-sha256").and_then(x5t_s256),
            proven: one("sitegate-client-cert-proven").and_then(x5t_s256),
        }
    }

    /// The key for rate limits: an IPv4 address, or an IPv6 /64.
    pub(in crate::site) fn neighbourhood(&self) -> Option<IpAddr> {
        self.address.map(neighbourhood)
    }

    /// The address for logs.
    pub(in crate::site) fn shown(&self) -> String {
        self.address.map_or_else(|| "-".to_owned(), |address| address.to_string())
    }
}

/// Converts a thumbprint from hexadecimal digits to the form in tokens.
fn x5t_s256(hex: &str) -> Option<String> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let digit = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes = (0..64).step_by(2).map(digit).collect::<Option<Vec<u8>>>()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(fields: &[(&'static str, &str)]) -> Caller {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Caller::of(&headers)
    }

    #[test]
    fn a_credential_that_is_there_twice_is_none() {
        let once = caller(&[("authorization", "bearer a.b.c")]);
        assert_eq!(once.bearer.as_ref().map(Secret::reveal), Some("a.b.c"));
        assert!(!format!("{once:?}").contains("a.b.c"));
        let twice = caller(&[("authorization", "Bearer a.b.c"), ("authorization", "Bearer d.e.f")]);
        assert!(twice.bearer.is_none());
        assert!(caller(&[("authorization", "Basic YTpi")]).bearer.is_none());
    }

    #[test]
    fn neighbours_of_one_network_are_counted_together() {
        let of = |address: &str| caller(&[("x-forwarded-for", address)]).neighbourhood();
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("nonsense"), None);
    }

    #[test]
    fn a_thumbprint_has_the_encoding_of_tokens() {
        let hex = "AB".repeat(32);
        let told = caller(&[("sitegate-client-cert-proven", &hex)]);
        assert_eq!(told.proven, Some(URL_SAFE_NO_PAD.encode([0xAB; 32])));
        assert_eq!(told.good, None);
        assert_eq!(x5t_s256("AB"), None);
        assert_eq!(x5t_s256(&"xy".repeat(32)), None);
    }
}
