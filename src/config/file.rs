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

/// Sections and keys; docs/configuration.md tells more of each.
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
    /// What clients may take.
    limits: Option<LimitsFile>,
    /// The service that gives clients their tokens. Takes effect at a restart.
    token_service: Option<TokenServiceFile>,
    /// For a gateway on another host: the site server that it follows. Takes effect at a restart.
    site_server: Option<SiteServerFile>,
    /// The site systems; several may share an address if their hosts differ.
    #[schemars(length(min = 1))]
    site_system: Vec<SiteSystemFile>,
    /// Whose tokens are accepted besides the site's own.
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
    /// The domains the root may issue for; by default the hosts of all site systems.
    pub(super) domains: Typed<Vec<Spanned<String>>>,
    /// The SHA-256 thumbprints of the site's roots: with them, a start with another root or with none is refused.
    pub(super) roots: Typed<Vec<Spanned<String>>>,
    /// Whether the site issues certificates where the PKI has given nothing fit.
    #[schemars(extend("default" = "enhanced"))]
    pub(super) certificates: Typed<CertificatesFile>,
    /// What kind of site it is; a central administration site issues for the SMS Provider alone.
    #[schemars(extend("default" = "primary"))]
    pub(super) kind: Typed<SiteKindFile>,
    /// Where clients find the files of `authority/crl`, over plain HTTP; written into certificates.
    #[schemars(regex(pattern = "^http://"))]
    pub(super) crl_url: Typed<String>,
    /// The kind of key of the authority and of what it issues.
    #[schemars(extend("default" = "p256"))]
    pub(super) authority_key: Typed<AuthorityKeyFile>,
    /// The `iss` of the site's own tokens; by default made of the first host.
    pub(super) token_issuer: Typed<String>,
    /// A watched file that says which tokens, devices and users are refused.
    pub(super) blocklist: Typed<String>,
    /// What seals the site's keys in a PostgreSQL store, for all of its servers: `file:PATH` or `env:NAME`.
    #[schemars(regex(pattern = "^(file|env):."))]
    pub(super) seal: Typed<String>,
}

/// `[admin]` and `[metrics]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListenFile {
    /// The address and port to listen on; for `[admin]` one of loopback.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    pub(super) listen: Typed<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogFile {
    /// How sitegate's own lines on standard error look.
    #[schemars(extend("default" = "text"))]
    pub(super) format: Typed<LogFormatFile>,
    /// The least level: error, warn, info, debug, trace, or `target=level` pairs.
    #[schemars(extend("default" = "info"))]
    pub(super) level: Typed<String>,
    /// A folder for logs in the form that CMTrace reads, a file for each component. Without it there
    /// are none.
    pub(super) cmtrace: Typed<String>,
    /// How the lines of the access log look.
    #[schemars(extend("default" = "json"))]
    pub(super) access_format: Typed<AccessFormatFile>,
    /// Where the access log goes: `stderr`, `off` or a file.
    #[schemars(extend("default" = "stderr"))]
    pub(super) access: Typed<String>,
}

/// `[token_service]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenServiceFile {
    /// Where it is on each site system that has it: an absolute path in small letters.
    #[schemars(regex(pattern = "^(/[^/A-Z]+)+$"), extend("default" = "/sitegate/oauth2"))]
    pub(super) path: Typed<String>,
    /// Whether a client that proves itself is let in at once, or waits for `site approve`.
    #[schemars(extend("default" = "automatic"))]
    pub(super) approval: Typed<ApprovalFile>,
    /// Whether a client may bring a device id that the site does not know.
    #[schemars(extend("default" = "approval"))]
    pub(super) claimed_ids: Typed<ClaimedIdsFile>,
    /// What the site's tokens are signed with; the key is made when there is none.
    #[schemars(extend("default" = "RS256"))]
    pub(super) algorithm: Typed<AlgorithmFile>,
    /// How long after its last token a client may come back; at most 365d.
    #[schemars(extend("default" = "30d"))]
    pub(super) return_grace: Typed<Span>,
    /// Registrations from one IPv4 address or IPv6 /64 in a minute.
    #[schemars(range(min = 1), extend("default" = 60))]
    pub(super) registrations_per_minute: Typed<u32>,
    /// Other requests from one IPv4 address or IPv6 /64 in a minute.
    #[schemars(range(min = 1), extend("default" = 600))]
    pub(super) requests_per_minute: Typed<u32>,
    /// What holds the URL of a PostgreSQL database: `file:PATH` or `env:NAME`; a file in the state directory by default.
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
    /// What holds the join token until it has been used: `file:PATH` or `env:NAME`.
    #[schemars(regex(pattern = "^(file|env):."))]
    pub(super) join: Typed<String>,
    /// What becomes of requests with tokens when the site server has not been heard of for too long.
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
    /// Whose routes it has.
    #[schemars(schema_with = "schema_types::roles")]
    pub(super) roles: Typed<Vec<Spanned<String>>>,
    /// The address and port where clients come in: `0.0.0.0:443`.
    #[schemars(regex(pattern = ":[0-9]+$"))]
    pub(super) listen: Typed<String>,
    /// Whether clients that send no server name, or an unknown one, mean this one.
    #[schemars(extend("default" = false))]
    pub(super) default: Typed<bool>,
    /// The names and IP addresses that clients use; its certificate has to cover all.
    #[schemars(length(min = 1))]
    pub(super) hosts: Typed<Vec<Spanned<String>>>,
    /// Where requests go: `http://host[:port]`, `https://host[:port]` or `unix:/path`; required but for a site server.
    #[schemars(regex(pattern = "^(http://|https://|unix:/)"))]
    pub(super) backend: Typed<String>,
    /// For https: a PEM file with the roots to trust instead of the system's.
    pub(super) backend_ca: Typed<String>,
    /// For https: the name in the backend's certificate; by default its host.
    pub(super) backend_name: Typed<String>,
    /// How long to wait for a connection.
    #[schemars(extend("default" = "5s"))]
    pub(super) backend_connect_time: Typed<Span>,
    /// How long to wait for the answer to begin, and between its parts.
    #[schemars(extend("default" = "5m"))]
    pub(super) backend_answer_time: Typed<Span>,
    /// How long an idle connection is kept; less than the backend keeps it.
    #[schemars(extend("default" = "55s"))]
    pub(super) backend_idle_time: Typed<Span>,
    /// How long a WebSocket may go without anything from the backend.
    #[schemars(extend("default" = "10m"))]
    pub(super) websocket_idle_time: Typed<Span>,
    /// Idle connections that each thread keeps.
    #[schemars(extend("default" = 256))]
    pub(super) backend_connections: Typed<u32>,
    /// Requests in flight at once; by default what leaves room for other backends.
    #[schemars(range(min = 1))]
    pub(super) backend_requests: Typed<u32>,
    /// As whom sitegate asks the backend; clients ask it as themselves without.
    pub(super) backend_auth: Typed<BackendAuthFile>,
    /// Whether tokens may leave this machine by http; otherwise that is an error.
    #[schemars(extend("enum" = ["accepted"]))]
    pub(super) cleartext: Typed<String>,
    /// The watched folder of its PKI certificate, as PEM or PFX.
    pub(super) pki: Typed<String>,
    /// The file in that folder with the certificate and the authorities above it.
    #[schemars(extend("default" = "tls.crt"))]
    pub(super) pki_certificate: Typed<String>,
    /// The file with the key; it may be the certificate's.
    #[schemars(extend("default" = "tls.key"))]
    pub(super) pki_key: Typed<String>,
    /// The file with the root to judge the certificate by, if there is one.
    #[schemars(extend("default" = "ca.crt"))]
    pub(super) pki_ca: Typed<String>,
    /// What becomes of a chain of which sitegate cannot process everything that clients can.
    #[schemars(extend("default" = "refuse"))]
    pub(super) pki_unprocessed: Typed<UnprocessedFile>,
    /// What opens the PFX files of that folder: `file:PATH` or `env:NAME`.
    #[schemars(regex(pattern = "^(file|env):."))]
    pub(super) pki_password: Typed<String>,
    /// Whether keys, PFX files and the password's file may be readable by everyone.
    #[schemars(extend("default" = "private"))]
    pub(super) key_mode: Typed<KeyModeFile>,
    /// The token issuers it accepts; all by default, and the site's own is `site`.
    pub(super) issuers: Typed<Vec<Spanned<String>>>,
    /// Whether requests that only token or route speak against are refused, or told of.
    #[schemars(extend("default" = "enforce"))]
    pub(super) mode: Typed<ModeFile>,
    /// When observing ends, with an offset from UTC; at most 90 days ahead.
    #[schemars(schema_with = "schema_types::instant")]
    pub(super) observe_until: Typed<toml::value::Datetime>,
    /// Whether clients are asked for a certificate; none is demanded.
    #[schemars(extend("default" = "off"))]
    pub(super) client_certificate: Typed<ClientCertificateFile>,
    /// The file with the authorities that issue client certificates, PEM.
    pub(super) client_ca: Typed<String>,
    /// A file or a list of files with CRLs of those authorities, PEM or DER.
    pub(super) client_crl: Typed<OneOrMany>,
    /// What becomes of clients when the CRL of their authority has expired.
    #[schemars(extend("default" = "deny"))]
    pub(super) client_crl_expired: Typed<CrlExpiredFile>,
    /// Networks and addresses of load balancers that speak the PROXY protocol, version 2.
    #[schemars(extend("default" = []))]
    pub(super) proxy_protocol: Typed<Vec<Spanned<String>>>,
    /// Whether HTTP/2 is offered besides HTTP/1.1.
    #[schemars(extend("default" = true))]
    pub(super) http2: Typed<bool>,
    /// Whether namespaces with Windows authentication are passed to the backend.
    #[schemars(extend("default" = false))]
    pub(super) windows_auth: Typed<bool>,
    /// Whether a client's `traceparent` is carried on to the backend.
    #[schemars(extend("default" = false))]
    pub(super) trust_traceparent: Typed<bool>,
    /// Where clients put their tokens: a header, and the scheme if there is one.
    #[schemars(extend("default" = ["Authorization: Bearer"]))]
    pub(super) token_headers: Typed<Vec<Spanned<String>>>,
    /// Whether the roles' namespaces of tokens reach the backend as they are, or as those without.
    #[schemars(extend("default" = "pass-through"))]
    pub(super) upstream: Typed<UpstreamFile>,
    /// What the messages of clients with a token have to be: nothing, well-formed, or their own.
    #[schemars(extend("default" = "shape"))]
    pub(super) message_guard: Typed<MessageGuardFile>,
    /// The endpoints that those messages may be for; any by default.
    pub(super) message_endpoints: Typed<Vec<Spanned<String>>>,
    /// What messages without a token may ask for besides what clients without one are known to need.
    #[schemars(extend("default" = []))]
    pub(super) message_requests: Typed<Vec<Spanned<String>>>,
    /// The queries that location takes besides those that clients are known to need.
    #[schemars(extend("default" = []))]
    pub(super) location_queries: Typed<Vec<Spanned<String>>>,
    /// Who may use the AltAuth namespaces, and for what; nobody without.
    pub(super) alt_auth: Typed<AltAuthFile>,
    /// What becomes of plain HTTP; sitegate does not listen for it without.
    pub(super) plain_http: Typed<PlainHttpFile>,
    /// Whether the token service is offered on it.
    #[schemars(extend("default" = false))]
    pub(super) token_service: Typed<bool>,
    /// Backends of single roles, where they are not the site system's.
    #[schemars(with = "Vec<RoleBackendFile>")]
    pub(super) role_backend: Option<toml::Value>,
    /// Routes of your own, on top of those of the roles; the longest path wins.
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
    /// The directory's GUID; required for `entra`.
    pub(super) tenant: Typed<String>,
    /// Further values of `iss`; for `oidc` the only one, and required.
    pub(super) issuer: Typed<OneOrMany>,
    /// The values of `aud` that mean this site; required for `oidc`.
    pub(super) audiences: Typed<Vec<Spanned<String>>>,
    /// A file or files (JWKS, PEM), or the https URL of a JWKS or discovery document.
    pub(super) keys: Typed<OneOrMany>,
    /// Hosts, besides the discovery document's own, that its `jwks_uri` may name.
    pub(super) key_hosts: Typed<Vec<Spanned<String>>>,
    /// Hosts that keys are fetched from though their addresses are not public.
    pub(super) private_hosts: Typed<Vec<Spanned<String>>>,
    /// A PEM file with the roots to trust instead when keys are fetched.
    pub(super) key_ca: Typed<String>,
    /// How old fetched keys may become, 1s to 1d; by default what the issuer says.
    pub(super) key_refresh: Typed<Span>,
    /// The least time between two fetches for unknown keys, 1s to 1d.
    #[schemars(extend("default" = "30s"))]
    pub(super) key_refetch_interval: Typed<Span>,
    /// How far the clocks may differ; at most an hour.
    #[schemars(extend("default" = "5m"))]
    pub(super) leeway: Typed<Span>,
    /// The longest life of a token; by default 90d, 2d or 1d, by kind.
    pub(super) lifetime_max: Typed<Span>,
    /// Whether its tokens may be exchanged for the site's own; by default not for `oidc`.
    pub(super) exchange: Typed<bool>,
    /// For `oidc`: the claim with the device's id.
    pub(super) device_claim: Typed<String>,
    /// For `oidc`: the claim with the user's id; one of the two is required.
    pub(super) user_claim: Typed<String>,
}
