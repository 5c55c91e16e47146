//! Decides which request fields pass to the backend, which ones only sitegate may write, and which
//! response fields pass to the client.
//!
//! IIS maps `-` and `_` to one server variable, so every rule holds for every spelling. Other
//! servers map every character but letters and digits to `_`, so a name with any other is removed.

/// Hop-by-hop fields (RFC 9110 §7.6.1).
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

/// Names that state who the client is, where it came from, or what it really requests. Only
/// sitegate may write them. Some are sitegate's own. A proxy, a load balancer, a web server module
/// or an authenticating service writes the others for its backend, which trusts them because it
/// assumes that only the proxy can reach it. A product reads each of them: a backend that once
/// stood behind such a product may still trust it.
const OURS: &[&str] = &[
    "forwarded",
    "client-ip",
    "true-client-ip",
    "fastly-client-ip",
    "front-end-https",
    "traceparent",
    "tracestate",
    "cdn-loop",
    "client-cert",
    "client-cert-chain",
    "auth-user",
    "logon-user",
    "proxy",
];

/// Prefixes with the same meaning: IIS' ASP.NET Core module (`MS-ASPNETCORE-CLIENTCERT`),
/// Cloudflare (`Cf-Access-…`, `Cf-Connecting-IP`), Authelia and Kubernetes (`Remote-Groups`,
/// `Impersonate-User`), Grafana's proxy (`WEBAUTH-USER`), Apache (`SSL_CLIENT_S_DN`, `OIDC_CLAIM_…`),
/// SiteMinder (`SM_USER`), WebSEAL (`iv-user`), Shibboleth, Tailscale.
const OURS_PREFIX: &[&str] = &[
    "sitegate-",
    "ms-aspnetcore-",
    "ssl-client",
    "cf-",
    "remote-",
    "webauth-",
    "impersonate-",
    "oidc-",
    "shib-",
    "sm-",
    "iv-",
    "tailscale-",
];

/// Names that begin with `x-`, with the same meaning.
const OURS_X: &[&str] = &[
    "x-client-ip",
    "x-cluster-client-ip",
    "x-client-verify",
    "x-client-dn",
    "x-client-s-dn",
    "x-client-i-dn",
    "x-proxyuser-ip",
    "x-method-override",
    "x-request-id",
    "x-host",
    "x-url-scheme",
    "x-scheme",
    "x-user",
    "x-user-id",
    "x-user-name",
    "x-user-email",
    "x-user-groups",
    "x-user-roles",
    "x-username",
    "x-userid",
    "x-userinfo",
    "x-email",
    "x-groups",
];

/// Prefixes that begin with `x-`: IIS (`X-Original-URL`, `X-Rewrite-URL`, `X-ARR-ClientCert`,
/// iisnode), Azure (`X-MS-CLIENT-PRINCIPAL`, `X-MS-TOKEN-AAD-…`, `X-Azure-ClientIP`, `X-Appgw-…`,
/// the Web Application Proxy's `X-MS-Proxy`), oauth2-proxy (`X-Auth-Request-User`), Traefik
/// (`X-Forwarded-Tls-Client-Cert`), Google's and Amazon's balancers, Envoy, Pomerium, authentik,
/// Kong. Also fields that make a server read or send another file (`X-Accel-Mapping`,
/// `X-Sendfile-Type`), or that override the method (`X-HTTP-Method-Override`).
const OURS_X_PREFIX: &[&str] = &[
    "x-sitegate-",
    "x-forward",
    "x-original-",
    "x-originating-",
    "x-real-",
    "x-remote-",
    "x-rewrite-",
    "x-http-",
    "x-arr-",
    "x-iisnode-",
    "x-ssl-",
    "x-tls-client",
    "x-client-cert",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-ms-proxy",
    "x-ms-forwarded-",
    "x-azure-",
    "x-appgw-",
    "x-auth-request-",
    "x-auth-user",
    "x-authenticated-",
    "x-authentik-",
    "x-webauth-",
    "x-goog-authenticated-user",
    "x-goog-iap-",
    "x-amzn-oidc-",
    "x-amzn-mtls-",
    "x-envoy-",
    "x-pomerium-",
    "x-consumer-",
    "x-credential-",
    "x-wap-",
    "x-accel-",
    "x-sendfile",
];

/// The second target of COPY and MOVE (RFC 4918 §10.3).
pub const DESTINATION: &str = "destination";

/// Names of which an underscore variant must not pass. The real spelling is judged elsewhere.
const TWINS: &[&str] = &["authorization", "host", "content-length", "transfer-encoding", "cookie"];

/// Folds a byte of a field name as a backend may: lower case, `-` for `_`.
fn folded(b: u8) -> u8 {
    match b {
        b'_' => b'-',
        b => b.to_ascii_lowercase(),
    }
}

/// Checks whether a backend may read a field name as `wanted`, in any spelling of either.
pub fn is(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len() && begins(name.as_bytes(), wanted)
}

fn begins(name: &[u8], wanted: &str) -> bool {
    let same = |(a, b): (&u8, u8)| folded(*a) == folded(b);
    name.len() >= wanted.len() && name.iter().zip(wanted.bytes()).all(same)
}

/// Checks that a name consists of letters, digits, `-` and `_`, so that all rules know its
/// spellings.
fn has_plain_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Checks whether only sitegate may write a name.
fn is_ours(name: &str) -> bool {
    let (names, prefixes) =
        if begins(name.as_bytes(), "x-") { (OURS_X, OURS_X_PREFIX) } else { (OURS, OURS_PREFIX) };
    names.iter().any(|n| is(name, n)) || prefixes.iter().any(|p| begins(name.as_bytes(), p))
}

/// Decides which fields of one request pass to the backend.
pub struct RequestRules<'a> {
    nominated: Vec<&'a [u8]>,
    /// Fields that may hold a token, as configured for the site system.
    secret: &'a [String],
    credential: CredentialField,
    /// Whether sitegate writes Authorization itself.
    ours: bool,
}

/// The client credentials that pass to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialField {
    /// None: Windows credentials on a shared connection would authenticate the next client too.
    None,
    /// The bearer token. The backend validates it.
    Token,
    /// Any: the backend connection belongs to this client alone.
    Any,
}

impl<'a> RequestRules<'a> {
    /// Creates the rules for a request with these fields.
    pub fn new(
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
        secret: &'a [String],
        credential: CredentialField,
    ) -> Self {
        let connection = |name: &str| name.eq_ignore_ascii_case("connection");
        let nominated = fields.filter(|(name, _)| connection(name)).map(|(_, value)| value);
        // These values nominate no field that would otherwise pass.
        let plain = |value: &&[u8]| {
            value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
        };
        let nominated = nominated.filter(|value| !plain(value)).collect();
        RequestRules { nominated, secret, credential, ours: false }
    }

    /// With `ours`, sitegate authenticates to the backend as itself: no client's Authorization
    /// passes.
    pub fn asking_as_ourselves(self, ours: bool) -> Self {
        RequestRules { ours, ..self }
    }

    /// Checks whether a field passes. `values` are all the request's values under this name.
    ///
    /// A field that may carry a token passes only if the route forwards it. A variant in another
    /// spelling never passes.
    pub fn passes<'v>(&self, name: &str, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        if !has_plain_name(name) || self.ours && is(name, "authorization") {
            return false;
        }
        if self.secret.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
            return match self.credential {
                CredentialField::None => false,
                CredentialField::Token => !values.any(windows_challenge),
                CredentialField::Any => true,
            };
        }
        if HOP_BY_HOP.iter().any(|n| is(name, n)) || is_ours(name) {
            return false;
        }
        // Via shows IIS that a proxy may send several clients' requests over one connection. IIS
        // then asks for Windows credentials with each request. A client's own Via passes on a
        // pinned connection, because the connection may end at such a proxy on the client's side.
        // The gateway shares a pinned connection with no other client, so it adds no entry of its
        // own (RFC 9110 §7.6.3 requires one): IIS would challenge every request. On other
        // connections Via is of no use to a backend.
        if is(name, "via") && self.credential != CredentialField::Any {
            return false;
        }
        let twin = name.contains('_');
        if twin && TWINS.iter().any(|n| is(name, n)) {
            return false;
        }
        !self.secret.iter().any(|secret| is(name, secret))
            && !self.nominated.iter().any(|value| names(value, name))
    }
}

/// Checks whether a Connection value nominates a field, in any spelling.
pub fn names(connection: &[u8], name: &str) -> bool {
    let is = |token: &[u8]| token.len() == name.len() && begins(token, name);
    connection.split(|b| *b == b',').any(|token| is(token.trim_ascii()))
}

/// Checks whether a backend's response field passes to the client.
pub fn response_passes<'a>(name: &str, mut nominated: impl Iterator<Item = &'a [u8]>) -> bool {
    let framing = ["transfer-encoding", "content-length"];
    if framing.iter().any(|n| name.eq_ignore_ascii_case(n)) {
        return true;
    }
    !HOP_BY_HOP.iter().any(|n| name.eq_ignore_ascii_case(n))
        && !begins(name.as_bytes(), "sitegate-")
        && !nominated.any(|value| names(value, name))
}

/// Checks whether a challenge offers Windows authentication. It is bound to a connection, and the
/// client has none to the backend.
pub fn windows_challenge(value: &[u8]) -> bool {
    // Cut at any byte that is no letter: some parsers accept a tab in place of the space.
    let scheme = value.split(|b| !b.is_ascii_alphabetic()).next().unwrap_or_default();
    [&b"negotiate"[..], b"ntlm", b"kerberos"].iter().any(|s| scheme.eq_ignore_ascii_case(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes_as(credential: CredentialField, name: &str) -> bool {
        let connection = [("Connection", &b"keep-alive, X-Named"[..])];
        let secret = ["authorization".to_owned(), "x_ccm_token".to_owned()];
        RequestRules::new(connection.into_iter(), &secret, credential)
            .passes(name, [&b"x"[..]].into_iter())
    }

    fn passes_plain(name: &str) -> bool {
        passes_as(CredentialField::None, name)
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
            "X-CCM-Token",
            "X-Request-Id",
            "Transfer_Encoding",
            "Content_Length",
            "Proxy-Authorization",
            "Upgrade",
            "TE",
            "X-Named",
            "X_Named",
        ] {
            assert!(!passes_plain(name), "{name}");
        }
    }

    #[test]
    fn what_other_proxies_say_of_a_client_is_removed() {
        for name in [
            "MS-ASPNETCORE-WINAUTHTOKEN",
            "MS-ASPNETCORE-CLIENTCERT",
            "MS_ASPNETCORE_TOKEN",
            "X-MS-CLIENT-PRINCIPAL",
            "X-MS-CLIENT-PRINCIPAL-NAME",
            "X-MS-TOKEN-AAD-ID-TOKEN",
            "X-MS-Proxy",
            "X-MS-Forwarded-Client-IP",
            "X-WEBAUTH-USER",
            "WEBAUTH-USER",
            "X-TLS-Client-Cert",
            "X-Client-Verify",
            "X-Client-DN",
            "X-Client-Cert",
            "SSL_CLIENT_S_DN",
            "SSL_CLIENT_CERT",
            "Fastly-Client-IP",
            "Client-IP",
            "X-Azure-ClientIP",
            "X-Accel-Redirect",
            "X-Accel-Mapping",
            "X-Sendfile-Type",
            "X-ProxyUser-Ip",
            "X-Auth-Request-User",
            "X-User",
            "X-Authenticated-User",
            "X-Goog-Authenticated-User-Email",
            "X-Goog-IAP-JWT-Assertion",
            "X-Amzn-Oidc-Identity",
            "Cf-Connecting-IP",
            "Cf-Access-Authenticated-User-Email",
            "X-Wap-Network-Client-IP",
            "Remote-User",
            "Remote_Groups",
            "X-Remote-Group",
            "Impersonate-User",
            "SM_USER",
            "X-Envoy-External-Address",
            "X-HTTP-DestinationURL",
        ] {
            assert!(!passes_plain(name), "{name}");
        }
    }

    #[test]
    fn a_field_name_readable_as_one_with_underscores_is_dropped() {
        for mark in "!#$%&'*+.^`|~".chars() {
            for name in ["Sitegate~Device", "X~Forwarded~For", "Content~Type", "X~Unknown", "~"] {
                let name = name.replace('~', &mark.to_string());
                for credential in
                    [CredentialField::None, CredentialField::Token, CredentialField::Any]
                {
                    assert!(!passes_as(credential, &name), "{name}");
                }
            }
        }
    }

    #[test]
    fn via_passes_only_on_a_client_owned_connection() {
        for (credential, passes) in [
            (CredentialField::None, false),
            (CredentialField::Token, false),
            (CredentialField::Any, true),
        ] {
            assert_eq!(passes_as(credential, "Via"), passes, "{credential:?}");
        }
    }

    #[test]
    fn header_fields_of_real_clients_pass() {
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
            "Content-Type",
            "Content-Length",
            "Content-Encoding",
            "Content-Range",
            "Host",
            "Cookie",
            "Expect",
            "Accept",
            "Accept-Encoding",
            "Cache-Control",
            "Pragma",
            "If-Modified-Since",
            "If-Unmodified-Since",
            "UA-CPU",
            // BITS and its upload protocol.
            "BITS-Packet-Type",
            "BITS-Session-Id",
            "BITS-Supported-Protocols",
            "BITS-Original-Request-URL",
            "BITS-Host-ID",
            "BITS-Error-Code",
            "BITS-Error-Context",
            "Content-Name",
            // WebDAV (RFC 4918).
            "Depth",
            "Destination",
            "If",
            "Lock-Token",
            "Overwrite",
            "Timeout",
            "Translate",
            "X-MSGETWEBURL",
            // Updates: SOAP, BranchCache, delivery optimisation.
            "SOAPAction",
            "X-P2P-PeerDist",
            "X-P2P-PeerDistEx",
            "MS-CV",
            "X-Requested-With",
            "X-MS-Client-Request-Id",
        ] {
            assert!(passes_plain(name), "{name}");
        }
    }

    #[test]
    fn a_response_loses_fields_named_by_connection() {
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
