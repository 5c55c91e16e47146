//! Which request fields pass to the backend and which are sitegate's alone to write, and which
//! response fields pass to the client.
//!
//! IIS maps `-` and `_` to one server variable, so every rule holds for every spelling. Others map
//! every character but letters and digits to `_`, so a name with any other does not pass at all.

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
/// may say that. Some are sitegate's own. All others are written by a proxy, a load balancer, a
/// module of a web server or an authenticating service to what is behind it, which believes them
/// because it believes that nobody else can reach it. Each has a product that reads it: a backend
/// that once stood behind one may still believe it.
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
/// Kong; and what makes a server read or answer another file (`X-Accel-Mapping`,
/// `X-Sendfile-Type`), or take a request for one of another method (`X-HTTP-Method-Override`).
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

/// Names whose underscore twins must not pass: the real spelling is judged elsewhere.
const TWINS: &[&str] = &["authorization", "host", "content-length", "transfer-encoding", "cookie"];

/// A field name as a backend may read it: lower case, `-` for `_`.
fn folded(b: u8) -> u8 {
    match b {
        b'_' => b'-',
        b => b.to_ascii_lowercase(),
    }
}

/// Whether a backend may read a field name as `wanted`, however either is spelt.
pub fn is(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len() && begins(name.as_bytes(), wanted)
}

fn begins(name: &[u8], wanted: &str) -> bool {
    let same = |(a, b): (&u8, u8)| folded(*a) == folded(b);
    name.len() >= wanted.len() && name.iter().zip(wanted.bytes()).all(same)
}

/// Whether a name has no other reading than in one of the spellings that all rules know.
fn has_plain_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Whether a name is for sitegate alone to write.
fn is_ours(name: &str) -> bool {
    let (names, prefixes) = match begins(name.as_bytes(), "x-") {
        true => (OURS_X, OURS_X_PREFIX),
        false => (OURS, OURS_PREFIX),
    };
    names.iter().any(|n| is(name, n)) || prefixes.iter().any(|p| begins(name.as_bytes(), p))
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
    ///
    /// A field that may carry a token passes only where the route forwards it, and a twin of one in
    /// another spelling never does.
    pub fn passes<'v>(&self, name: &str, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        if !has_plain_name(name) || self.ours && is(name, "authorization") {
            return false;
        }
        if self.secret.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
            return match self.credential {
                Credential::None => false,
                Credential::Token => !values.any(windows_challenge),
                Credential::Any => true,
            };
        }
        if HOP_BY_HOP.iter().any(|n| is(name, n)) || is_ours(name) {
            return false;
        }
        // By Via IIS sees that a proxy may send several clients' requests over one connection, and
        // then asks for Windows credentials with each. A connection of the client's own may end at
        // such a proxy on the other side. Ours shares it with nobody, so we add no entry (RFC 9110
        // §7.6.3 would have one): every request would be asked. Elsewhere what clients say of their
        // way is of no use to a backend.
        if is(name, "via") && self.credential != Credential::Any {
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

/// Whether a Connection value names a field, in any spelling.
pub fn names(connection: &[u8], name: &str) -> bool {
    let is = |token: &[u8]| token.len() == name.len() && begins(token, name);
    connection.split(|b| *b == b',').any(|token| is(token.trim_ascii()))
}

/// Whether a response field from the backend may pass to the client.
pub fn response_passes<'a>(name: &str, mut nominated: impl Iterator<Item = &'a [u8]>) -> bool {
    let framing = ["transfer-encoding", "content-length"];
    if framing.iter().any(|n| name.eq_ignore_ascii_case(n)) {
        return true;
    }
    !HOP_BY_HOP.iter().any(|n| name.eq_ignore_ascii_case(n))
        && !begins(name.as_bytes(), "sitegate-")
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

    fn passes_as(credential: Credential, name: &str) -> bool {
        let connection = [("Connection", &b"keep-alive, X-Named"[..])];
        let secret = ["authorization".to_owned(), "x_ccm_token".to_owned()];
        RequestRules::new(connection.into_iter(), &secret, credential)
            .passes(name, [&b"x"[..]].into_iter())
    }

    fn passes_plain(name: &str) -> bool {
        passes_as(Credential::None, name)
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
    fn a_name_with_a_character_that_a_server_may_read_as_an_underscore_does_not_pass() {
        for mark in "!#$%&'*+.^`|~".chars() {
            for name in ["Sitegate~Device", "X~Forwarded~For", "Content~Type", "X~Unknown", "~"] {
                let name = name.replace('~', &mark.to_string());
                for credential in [Credential::None, Credential::Token, Credential::Any] {
                    assert!(!passes_as(credential, &name), "{name}");
                }
            }
        }
    }

    #[test]
    fn the_way_of_a_request_is_told_on_a_connection_of_the_clients_own_alone() {
        for (credential, passes) in
            [(Credential::None, false), (Credential::Token, false), (Credential::Any, true)]
        {
            assert_eq!(passes_as(credential, "Via"), passes, "{credential:?}");
        }
    }

    #[test]
    fn what_configuration_manager_bits_webdav_and_update_clients_send_passes() {
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
