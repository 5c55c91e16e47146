//! Which request fields pass to the backend and which are sitegate's alone to write, and which
//! response fields pass to the client.
//!
//! IIS maps `-` and `_` to one server variable, so every rule holds for every spelling.

/// Fields that end at this hop (RFC 9110 §7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
];

/// Names that say who the client is, where it came from, or what it really asks for: only sitegate
/// may say that.
const OURS: &[&str] = &[
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "true-client-ip",
    "cf-connecting-ip",
    "front-end-https",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-request-id",
    "traceparent",
    "tracestate",
    "client-cert",
    "client-cert-chain",
    "x-client-cert",
    "remote-user",
    "proxy",
    "x-host",
    "x-url-scheme",
    "x-scheme",
];

/// Prefixes with the same meaning.
const OURS_PREFIX: &[&str] = &[
    "sitegate-",
    "x-sitegate-",
    "x-forwarded",
    "x-original-",
    "x-rewrite-",
    "x-arr-",
    "x-ssl-",
    "ssl-client-",
    "x-client-cert-",
    "x-remote-user",
    "x-iisnode-",
    "x-appgw-",
];

/// Names whose underscore twins must not pass: the real spelling is judged elsewhere.
const TWINS: &[&str] = &["authorization", "host", "content-length", "transfer-encoding", "cookie"];

/// A field name as a backend may read it: lower case, `-` for `_`.
fn folded(b: u8) -> u8 {
    match b {
        b'_' => b'-',
        b => b.to_ascii_lowercase(),
    }
}

/// Whether a backend may read a field name as `wanted`.
pub fn is(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len() && begins(name, wanted)
}

fn begins(name: &str, wanted: &str) -> bool {
    name.len() >= wanted.len() && name.bytes().map(folded).zip(wanted.bytes()).all(|(a, b)| a == b)
}

/// Whether a request field from the client may pass to the backend.
///
/// `secret` names the fields that may carry a token: they pass only where the route forwards it,
/// and an underscore twin of one never does. `nominated` is the value of the request's Connection
/// fields, whose tokens name further fields that end here.
fn passes<'a>(
    name: &str,
    nominated: impl Iterator<Item = &'a [u8]>,
    secret: impl Iterator<Item = &'a str>,
) -> bool {
    if HOP_BY_HOP.iter().chain(OURS).any(|n| is(name, n)) {
        return false;
    }
    if OURS_PREFIX.iter().any(|p| begins(name, p)) {
        return false;
    }
    let twin = name.contains('_');
    if twin && TWINS.iter().any(|n| is(name, n)) {
        return false;
    }
    let (mut nominated, mut secret) = (nominated, secret);
    if secret.any(|s| is(name, s)) {
        return false;
    }
    !nominated.any(|value| names(value, name))
}

/// Which fields of one request pass to the backend.
pub struct RequestRules<'a> {
    nominated: Vec<&'a [u8]>,
    /// Fields that may hold a token, as the site system has them.
    secret: &'a [String],
    credential: Credential,
    /// Whether Authorization is sitegate's own to write.
    ours: bool,
}

/// Which credentials of a client pass to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None: Windows credentials on a shared connection would authenticate whoever comes next.
    None,
    /// The bearer token, which the backend validates itself.
    Token,
    /// Any: the connection to the backend is this client's own.
    Any,
}

impl<'a> RequestRules<'a> {
    /// The rules for a request with these fields.
    pub fn new(
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
        secret: &'a [String],
        credential: Credential,
    ) -> Self {
        let connection = |name: &str| name.eq_ignore_ascii_case("connection");
        let nominated = fields.filter(|(name, _)| connection(name)).map(|(_, value)| value);
        // These name nothing that would otherwise pass.
        let plain = |value: &&[u8]| {
            value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
        };
        let nominated = nominated.filter(|value| !plain(value)).collect();
        RequestRules { nominated, secret, credential, ours: false }
    }

    /// The same, where sitegate asks the backend as itself: no Authorization of a client passes.
    pub fn asking_as_ourselves(self, ours: bool) -> Self {
        RequestRules { ours, ..self }
    }

    /// Whether a field passes. `values` are all the values that the request has under this name.
    pub fn passes<'v>(&self, name: &str, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        if self.ours && is(name, "authorization") {
            return false;
        }
        if self.secret.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
            return match self.credential {
                Credential::None => false,
                Credential::Token => !values.any(windows_challenge),
                Credential::Any => true,
            };
        }
        let secret = self.secret.iter().map(String::as_str);
        passes(name, self.nominated.iter().copied(), secret)
    }
}

/// Whether a Connection value names a field.
pub fn names(connection: &[u8], name: &str) -> bool {
    connection.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether a response field from the backend may pass to the client.
pub fn response_passes<'a>(name: &str, mut nominated: impl Iterator<Item = &'a [u8]>) -> bool {
    let framing = ["transfer-encoding", "content-length"];
    if framing.iter().any(|n| name.eq_ignore_ascii_case(n)) {
        return true;
    }
    !HOP_BY_HOP.iter().any(|n| name.eq_ignore_ascii_case(n))
        && !begins(name, "sitegate-")
        && !nominated.any(|value| names(value, name))
}

/// Whether a challenge offers Windows authentication, which is bound to a connection that the
/// client does not have with the backend.
pub fn windows_challenge(value: &[u8]) -> bool {
    // Cut at whatever is no letter: some take a tab for the space.
    let scheme = value.split(|b| !b.is_ascii_alphabetic()).next().unwrap_or_default();
    [&b"negotiate"[..], b"ntlm", b"kerberos"].iter().any(|s| scheme.eq_ignore_ascii_case(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes_plain(name: &str) -> bool {
        passes(name, [&b"keep-alive, X-Named"[..]].into_iter(), ["authorization"].into_iter())
    }

    #[test]
    fn what_a_client_may_not_say_is_removed_in_every_spelling() {
        for name in [
            "X-Forwarded-For",
            "X_Forwarded_Proto",
            "x-forwarded_host",
            "X-FORWARDED-PREFIX",
            "Forwarded",
            "X-Real-IP",
            "X_Real_IP",
            "Front-End-Https",
            "Sitegate-Device",
            "SITEGATE_USER",
            "sitegate-anything",
            "X-Original-URL",
            "X_Rewrite_URL",
            "X-HTTP-Method-Override",
            "X-ARR-ClientCert",
            "X-ARR-SSL",
            "X-SSL-Client-Verify",
            "Client-Cert",
            "Authorization",
            "AUTHORIZATION_",
            "X-Request-Id",
            "Transfer_Encoding",
            "Content_Length",
            "Proxy-Authorization",
            "Upgrade",
            "TE",
            "X-Named",
        ] {
            assert_eq!(passes_plain(name), name == "AUTHORIZATION_", "{name}");
        }
    }

    #[test]
    fn what_configuration_manager_sends_passes() {
        for name in [
            "Range",
            "If-Range",
            "CCMClientID",
            "CCMClientIDSignature",
            "CCMClientTimestamp",
            "CCMClientTimestampsSignature",
            "ClientToken",
            "ClientTokenSignature",
            "CCMAuthHeaderType",
            "User-Agent",
            "Depth",
            "Translate",
            "Content-Type",
            "Content-Length",
            "Host",
            "Cookie",
            "Expect",
        ] {
            assert!(passes_plain(name), "{name}");
        }
    }

    #[test]
    fn a_response_loses_what_its_connection_field_names_and_keeps_its_framing() {
        let nominated = || [&b"close, X-Internal"[..]].into_iter();
        for (name, passes) in [
            ("X-Internal", false),
            ("Connection", false),
            ("Sitegate-Device", false),
            ("Content-Length", true),
            ("ETag", true),
        ] {
            assert_eq!(response_passes(name, nominated()), passes, "{name}");
        }
        assert!(windows_challenge(b"Negotiate") && windows_challenge(b"NTLM TlRM"));
        assert!(windows_challenge(b"Negotiate\tTlRM") && windows_challenge(b"ntlm,Basic"));
        assert!(!windows_challenge(b"Bearer realm=\"x\""));
    }
}
