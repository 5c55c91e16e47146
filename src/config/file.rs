//! What was typed: one type for each section of the file, with nothing resolved.
//!
//! Every field is optional here; what an absent one means is decided where the section is resolved.
//! The first line above a field is what editors tell of it, by the schema.

mod tables;
mod words;

use schemars::JsonSchema;
use serde::Deserialize;

use super::limits::LimitsFile;
use super::schema_types;
use super::spanned::Spanned;
use super::units::Span;
pub(super) use tables::{AltAuthFile, BackendAuthFile, PlainHttpFile, RoleBackendFile, RouteFile};
pub(super) use words::{
    AccessFormatFile, AlgorithmFile, ApprovalFile, AuthorityKeyFile, CertificatesFile,
    ClaimedIdsFile, ClientCertificateFile, CrlExpiredFile, KeyModeFile, KindFile, LogFormatFile,
    MessageGuardFile, ModeFile, OneOrMany, PlainHttpModeFile, SiteKindFile, StaleFile, TokenFile,
    UnprocessedFile, UpstreamFile,
};

type Typed<T> = Option<Spanned<T>>;

/// Sections and keys; docs/configuration.md describes each in full.
#[derive(JsonSchema)]
#[schemars(title = "sitegate's configuration", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "for the schema; the sections are read one by one, to find all faults"
)]
pub(super) struct ConfigFile {
    /// The site. Takes effect at a restart.
    site: SiteFile,
    /// The listener for status, by default 127.0.0.1:9180. Takes effect at a restart.
    admin: Option<ListenFile>,
    /// The listener for metrics and health, by default 127.0.0.1:9181. Takes effect at a restart.
    metrics: Option<ListenFile>,
    /// sitegate's own log, and the access log. Takes effect at a restart.
    log: Option<LogFile>,
    /// Limits for clients.
    limits: Option<LimitsFile>,
    /// The service that issues tokens to clients. Takes effect at a restart.
    token_service: Option<TokenServiceFile>,
    /// For a gateway on another host: the site server that it follows. Takes effect at a restart.
    site_server: Option<SiteServerFile>,
    /// The site systems; several may share an address if their hosts differ.
    #[schemars(length(min = 1))]
    site_system: Vec<SiteSystemFile>,
    /// Token issuers that are accepted besides the site itself.
    token_issuer: Option<Vec<TokenIssuerFile>>,
}

/// `[site]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["code"]))]
pub(super) struct SiteFile {
    /// The site code: three letters or digits.
    #[schemars(regex(pattern = "^[A-Za-z0-9]{3}$"))]
    pub(super) code: Typed<String>,
    /// The hierarchy's GUID, for tokens of Configuration Manager's own issuers.
    pub(super) hierarchy: Typed<String>,
    /// The directory of the site's authority and token key; private.
    #[schemars(extend("default" = "/var/lib/sitegate"))]
    pub(super) state: Typed<String>,
    /// The domains that the root may issue certificates for; by default the hosts of all site systems.
    pub(super) domains: Typed<Vec<Spanned<String>>>,
    /// The SHA-256 thumbprints of the site's roots. If set, sitegate does not start with another root or without one.
    pub(super) roots: Typed<Vec<Spanned<String>>>,
    /// Whether the site issues certificates for site systems without a fit PKI certificate.
    #[schemars(extend("default" = "enhanced"))]
    pub(super) certificates: Typed<CertificatesFile>,
    /// The type of the site. A central administration site issues certificates for the SMS Provider only.
    #[schemars(extend("default" = "primary"))]
    pub(super) kind: Typed<SiteKindFile>,
    /// The plain HTTP URL of the files in `authority/crl`; written into certificates.
    #[schemars(regex(pattern = "^http://"))]
    pub(super) crl_url: Typed<String>,
    /// The key type of the authority and of the certificates that it issues.
    #[schemars(extend("default" = "p256"))]
    pub(super) authority_key: Typed<AuthorityKeyFile>,
    /// The `iss` of the site's own tokens; by default derived from the first host.
    pub(super) token_issuer: Typed<String>,
    /// A watched file with blocked tokens, devices and users.
    pub(super) blocklist: Typed<String>,
    /// The secret that encrypts the site's keys in a PostgreSQL store, the same on all site servers: `file:PATH` or `env:NAME`.
    #[schemars(regex(pattern = "^(file|env):."))]
    pub(super) seal: Typed<String>,
}

/// `[admin]` and `[metrics]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListenFile {
    /// The address and port to listen on; for `[admin]` a loopback address.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    pub(super) listen: Typed<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogFile {
    /// The format of sitegate's own log on standard error.
    #[schemars(extend("default" = "text"))]
    pub(super) format: Typed<LogFormatFile>,
    /// The minimum level: error, warn, info, debug, trace, or `target=level` pairs.
    #[schemars(extend("default" = "info"))]
    pub(super) level: Typed<String>,
    /// A folder for logs in the format of CMTrace, one file for each component. Without it there are
    /// none.
    pub(super) cmtrace: Typed<String>,
    /// The format of the access log.
    #[schemars(extend("default" = "json"))]
    pub(super) access_format: Typed<AccessFormatFile>,
    /// The destination of the access log: `stderr`, `off` or a file.
    #[schemars(extend("default" = "stderr"))]
    pub(super) access: Typed<String>,
}

/// `[token_service]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenServiceFile {
    /// Its path on each site system that offers it: absolute, in lower case.
    #[schemars(regex(pattern = "^(/[^/A-Z]+)+$"), extend("default" = "/sitegate/oauth2"))]
    pub(super) path: Typed<String>,
    /// Whether a client that proves its identity is approved automatically, or waits for `site approve`.
    #[schemars(extend("default" = "automatic"))]
    pub(super) approval: Typed<ApprovalFile>,
    /// Whether a client may register with a device id that the site does not know.
    #[schemars(extend("default" = "approval"))]
    pub(super) claimed_ids: Typed<ClaimedIdsFile>,
    /// The key type that signs the site's tokens; the key is generated if there is none.
    #[schemars(extend("default" = "RS256"))]
    pub(super) algorithm: Typed<AlgorithmFile>,
    /// How long after its last token a client may renew; at most 365d.
    #[schemars(extend("default" = "30d"))]
    pub(super) return_grace: Typed<Span>,
    /// How long the records of tokens are kept after the tokens' expiry; at most 3650d.
    #[schemars(extend("default" = "30d"))]
    pub(super) tokens_kept: Typed<Span>,
    /// How long lines of the audit log are kept; at most 3650d.
    #[schemars(extend("default" = "365d"))]
    pub(super) audit_kept: Typed<Span>,
    /// Registrations per minute from one IPv4 address or IPv6 /64.
    #[schemars(range(min = 1), extend("default" = 60))]
    pub(super) registrations_per_minute: Typed<u32>,
    /// Other requests per minute from one IPv4 address or IPv6 /64.
    #[schemars(range(min = 1), extend("default" = 600))]
    pub(super) requests_per_minute: Typed<u32>,
    /// The source of the URL of a PostgreSQL database: `file:PATH` or `env:NAME`. By default the store is a file in the state directory.
    #[schemars(regex(pattern = "^(file|env):."))]
    pub(super) store: Typed<String>,
}

/// `[site_server]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "join"]))]
pub(super) struct SiteServerFile {
    /// The name of this gateway, for which its join token was made.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$"))]
    pub(super) name: Typed<String>,
    /// The source of the join token until it has been used: `file:PATH` or `env:NAME`.
    #[schemars(regex(pattern = "^(file|env):."))]
    pub(super) join: Typed<String>,
    /// Whether requests with tokens are refused once the last bundle of the site server has expired.
    #[schemars(extend("default" = "serve"))]
    pub(super) stale: Typed<StaleFile>,
}

/// `[[site_system]]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "listen", "hosts"]))]
pub(super) struct SiteSystemFile {
    /// Its name in logs, metrics and status: up to 64 letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$"))]
    pub(super) name: Typed<String>,
    /// Its roles, whose preset routes it has.
    #[schemars(schema_with = "schema_types::roles")]
    pub(super) roles: Typed<Vec<Spanned<String>>>,
    /// The address and port for clients, such as `0.0.0.0:443`.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    pub(super) listen: Typed<String>,
    /// Whether clients with no server name, or an unknown one, get this site system.
    #[schemars(extend("default" = false))]
    pub(super) default: Typed<bool>,
    /// The names and IP addresses that clients use; its certificate must cover all of them.
    #[schemars(length(min = 1))]
    pub(super) hosts: Typed<Vec<Spanned<String>>>,
    /// The backend: `http://host[:port]`, `https://host[:port]` or `unix:/path`; required except for a site server.
    #[schemars(regex(pattern = "^(http://|https://|unix:/)"))]
    pub(super) backend: Typed<String>,
    /// For https: a PEM file with the trusted roots, in place of the system's.
    pub(super) backend_ca: Typed<String>,
    /// For https: the name in the backend's certificate; by default its host.
    pub(super) backend_name: Typed<String>,
    /// The timeout for a connection.
    #[schemars(extend("default" = "5s"))]
    pub(super) backend_connect_time: Typed<Span>,
    /// The timeout for the first byte of the response, and between its parts.
    #[schemars(extend("default" = "5m"))]
    pub(super) backend_answer_time: Typed<Span>,
    /// How long an idle connection is kept in the pool; less than the backend's own idle timeout.
    #[schemars(extend("default" = "55s"))]
    pub(super) backend_idle_time: Typed<Span>,
    /// The idle timeout of a WebSocket: how long the backend may send nothing.
    #[schemars(extend("default" = "10m"))]
    pub(super) websocket_idle_time: Typed<Span>,
    /// The number of idle connections in the pool of each thread.
    #[schemars(extend("default" = 256))]
    pub(super) backend_connections: Typed<u32>,
    /// The number of requests in flight; by default as many as leave room for other backends.
    #[schemars(range(min = 1))]
    pub(super) backend_requests: Typed<u32>,
    /// The account with which sitegate authenticates to the backend. Without it, clients authenticate themselves.
    pub(super) backend_auth: Typed<BackendAuthFile>,
    /// Whether tokens may leave this machine over plain HTTP; otherwise that is an error.
    #[schemars(extend("enum" = ["accepted"]))]
    pub(super) cleartext: Typed<String>,
    /// The watched folder of its PKI certificate, as PEM or PFX.
    pub(super) pki: Typed<String>,
    /// The file in that folder with the certificate and its intermediate certificates.
    #[schemars(extend("default" = "tls.crt"))]
    pub(super) pki_certificate: Typed<String>,
    /// The file with the key; it may be the same file.
    #[schemars(extend("default" = "tls.key"))]
    pub(super) pki_key: Typed<String>,
    /// The file with the root that the chain must end at, if there is one.
    #[schemars(extend("default" = "ca.crt"))]
    pub(super) pki_ca: Typed<String>,
    /// Whether a chain with extensions that clients can process and sitegate cannot is served.
    #[schemars(extend("default" = "refuse"))]
    pub(super) pki_unprocessed: Typed<UnprocessedFile>,
    /// The source of the password of the PFX files in that folder: `file:PATH` or `env:NAME`.
    #[schemars(regex(pattern = "^(file|env):."))]
    pub(super) pki_password: Typed<String>,
    /// Whether keys, PFX files and the password file may be readable by all users.
    #[schemars(extend("default" = "private"))]
    pub(super) key_mode: Typed<KeyModeFile>,
    /// The token issuers that it accepts; by default all. The site's own is `site`.
    pub(super) issuers: Typed<Vec<Spanned<String>>>,
    /// Whether requests that only their token or route would deny are refused, or forwarded and logged.
    #[schemars(extend("default" = "enforce"))]
    pub(super) mode: Typed<ModeFile>,
    /// The end of observe mode, with an offset from UTC; at most 90 days ahead.
    #[schemars(schema_with = "schema_types::instant")]
    pub(super) observe_until: Typed<toml::value::Datetime>,
    /// Whether clients are asked for a certificate. They need not have one.
    #[schemars(extend("default" = "off"))]
    pub(super) client_certificate: Typed<ClientCertificateFile>,
    /// The file with the CAs that issue client certificates.
    pub(super) client_ca: Typed<String>,
    /// A file or a list of files with CRLs of those CAs, PEM or DER.
    pub(super) client_crl: Typed<OneOrMany>,
    /// Whether clients are refused when the CRL of their CA has expired.
    #[schemars(extend("default" = "deny"))]
    pub(super) client_crl_expired: Typed<CrlExpiredFile>,
    /// Networks and addresses of load balancers that send the PROXY protocol, version 2.
    #[schemars(extend("default" = []))]
    pub(super) proxy_protocol: Typed<Vec<Spanned<String>>>,
    /// Whether HTTP/2 is offered besides HTTP/1.1.
    #[schemars(extend("default" = true))]
    pub(super) http2: Typed<bool>,
    /// Whether namespaces with Windows authentication are forwarded to the backend.
    #[schemars(extend("default" = false))]
    pub(super) windows_auth: Typed<bool>,
    /// Whether a client's `traceparent` is forwarded to the backend.
    #[schemars(extend("default" = false))]
    pub(super) trust_traceparent: Typed<bool>,
    /// The headers that may hold a token, each with its scheme if it has one.
    #[schemars(extend("default" = ["Authorization: Bearer"]))]
    pub(super) token_headers: Typed<Vec<Spanned<String>>>,
    /// Whether token namespaces are forwarded as they are, or translated to the plain ones.
    #[schemars(extend("default" = "pass-through"))]
    pub(super) upstream: Typed<UpstreamFile>,
    /// The check of messages from clients with a token: none, the form, or also that the message is of the token's device.
    #[schemars(extend("default" = "shape"))]
    pub(super) message_guard: Typed<MessageGuardFile>,
    /// The endpoints that those messages may target; by default any.
    pub(super) message_endpoints: Typed<Vec<Spanned<String>>>,
    /// The request types that messages without a token may contain, besides those that clients without a token need.
    #[schemars(extend("default" = []))]
    pub(super) message_requests: Typed<Vec<Spanned<String>>>,
    /// The queries that the location route accepts, besides those that clients need.
    #[schemars(extend("default" = []))]
    pub(super) location_queries: Typed<Vec<Spanned<String>>>,
    /// The networks that may use the AltAuth namespaces, and the endpoints; without it the namespaces are closed.
    pub(super) alt_auth: Typed<AltAuthFile>,
    /// The plain HTTP listener; without it sitegate has none.
    pub(super) plain_http: Typed<PlainHttpFile>,
    /// Whether the token service is offered on it.
    #[schemars(extend("default" = false))]
    pub(super) token_service: Typed<bool>,
    /// Backends of single roles, where they are not the site system's.
    #[schemars(with = "Vec<RoleBackendFile>")]
    pub(super) role_backend: Option<toml::Value>,
    /// Your own routes, in addition to those of the roles; the longest path wins.
    #[schemars(with = "Vec<RouteFile>")]
    pub(super) route: Option<toml::Value>,
}

/// `[[token_issuer]]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "kind"]))]
pub(super) struct TokenIssuerFile {
    /// Its name in logs, metrics, status and `site_system.issuers`.
    pub(super) name: Typed<String>,
    /// Configuration Manager (`site`), Microsoft Entra ID, or another OpenID Connect provider.
    pub(super) kind: Typed<KindFile>,
    /// The GUID of the Entra tenant; required for `entra`.
    pub(super) tenant: Typed<String>,
    /// Further values of `iss`; for `oidc` the only one, and required.
    pub(super) issuer: Typed<OneOrMany>,
    /// The accepted values of `aud`; required for `oidc`.
    pub(super) audiences: Typed<Vec<Spanned<String>>>,
    /// A file or files (JWKS, PEM), or the https URL of a JWKS or discovery document.
    pub(super) keys: Typed<OneOrMany>,
    /// Hosts, besides the discovery document's own, that its `jwks_uri` may name.
    pub(super) key_hosts: Typed<Vec<Spanned<String>>>,
    /// Hosts that keys may be fetched from although their addresses are not public.
    pub(super) private_hosts: Typed<Vec<Spanned<String>>>,
    /// A PEM file with the trusted roots for fetching keys, in place of the system's.
    pub(super) key_ca: Typed<String>,
    /// The longest time that fetched keys are used without a refresh, 1s to 1d; by default as the issuer says.
    pub(super) key_refresh: Typed<Span>,
    /// The shortest time between two fetches for unknown keys, 1s to 1d.
    #[schemars(extend("default" = "30s"))]
    pub(super) key_refetch_interval: Typed<Span>,
    /// The accepted clock difference; at most an hour.
    #[schemars(extend("default" = "5m"))]
    pub(super) leeway: Typed<Span>,
    /// The longest accepted lifetime of a token; by default 90d, 2d or 1d, by kind.
    pub(super) lifetime_max: Typed<Span>,
    /// Whether its tokens may be exchanged for the site's own; by default not for `oidc`.
    pub(super) exchange: Typed<bool>,
    /// For `oidc`: the claim with the device's id.
    pub(super) device_claim: Typed<String>,
    /// For `oidc`: the claim with the user's id; one of the two is required.
    pub(super) user_claim: Typed<String>,
}
