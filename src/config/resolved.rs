//! The resolved configuration: every default filled in, every name looked up, every path absolute.

mod backend;
mod following;
mod issuer;
mod judging;

use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use backend::{BackendAddress, BackendConfig, BackendTimes};
pub use following::Following;
pub use issuer::{IssuerConfig, KeySource, KeyUrl};
pub use judging::{AltAuth, MessageGuard, MessagePolicy, ObserveUntil, PlainHttp, PlainHttpMode};

use super::limits::Limits;
use crate::route::{Role, RouteTable};
use crate::secret::PasswordSource;
use crate::token::{SignerKind, TokenSource};

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site.
    pub site: SiteConfig,
    /// The address of admin page, API and status.
    pub admin: SocketAddr,
    /// The address of metrics and health.
    pub metrics: SocketAddr,
    /// The logs and their destinations.
    pub log: Logging,
    /// The limits of one client, and of all of them.
    pub limits: Limits,
    /// The service that issues tokens to clients.
    pub token_service: TokenServiceConfig,
    /// The site server that this gateway follows, if it has no CA of its own.
    pub site_server: Option<Following>,
    /// The site systems, in the order of the file.
    pub site_systems: Vec<SiteSystem>,
    /// The trusted token issuers, in the order of the file.
    pub issuers: Vec<IssuerConfig>,
}

/// `[site]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    /// The three characters of the site code.
    pub code: String,
    /// The hierarchy's GUID.
    pub hierarchy: Option<uuid::Uuid>,
    /// The state directory.
    pub state: PathBuf,
    /// The domains that the site may issue certificates for.
    pub domains: Vec<String>,
    /// The SHA-256 thumbprints of the site's roots, upper-case hexadecimal; empty if any root is
    /// accepted.
    pub roots: Vec<String>,
    /// Whether the site issues certificates if there is no PKI certificate.
    pub issues_certificates: bool,
    /// The kind of the site.
    pub kind: SiteKind,
    /// The base URL of the CRLs, for clients.
    pub crl_url: Option<String>,
    /// The kind of key of the issuing CA.
    pub authority_key: AuthorityKey,
    /// The `iss` of the site's own tokens.
    pub token_issuer: String,
    /// The file with the blocked tokens, devices and users.
    pub blocklist: Option<PathBuf>,
    /// The secret that encrypts the site's keys in a store that several site servers share.
    pub seal: Option<PasswordSource>,
}

/// `site.kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// A site with clients.
    Primary,
    /// A site above others; of its roles only the SMS Provider is used here.
    CentralAdministration,
}

/// `site.authority_key`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityKey {
    /// ECDSA on P-256.
    P256,
    /// RSA with 2048 bits.
    Rsa2048,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The format of log lines on standard error.
    pub format: LogFormat,
    /// The filter of log lines: a level, or directives in the form of `RUST_LOG`.
    pub level: String,
    /// The folder of CMTrace logs, if configured.
    pub cmtrace: Option<PathBuf>,
    /// The format of access log lines.
    pub access_format: AccessFormat,
    /// The destination of the access log.
    pub access: LogSink,
}

/// `[token_service]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenServiceConfig {
    /// Its path on each site system that offers it: canonical, without a trailing slash.
    pub path: String,
    /// Whether a client that proves its identity is approved at once.
    pub approval_automatic: bool,
    /// Whether a client may claim a device id that the site does not know.
    pub claims_accepted: bool,
    /// The kind of key that signs the site's tokens.
    pub signing: SignerKind,
    /// How long after the expiry of its last token a client may return.
    pub return_grace: Duration,
    /// How long the records of tokens are kept after the tokens' expiry.
    pub tokens_kept: Duration,
    /// How long lines of the audit log are kept.
    pub audit_kept: Duration,
    /// Registrations per minute from one address.
    pub registrations_per_minute: NonZeroU32,
    /// Other requests per minute from one address.
    pub requests_per_minute: NonZeroU32,
    /// The site's store.
    pub store: TokenServiceStore,
}

/// `token_service.store`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenServiceStore {
    /// A file in the state directory.
    Embedded,
    /// A PostgreSQL database; the source holds its URL.
    Postgres(PasswordSource),
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `log.access_format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessFormat {
    /// Everything, a JSON object for each request.
    #[default]
    Json,
    /// The combined format of Apache and nginx.
    Combined,
    /// The W3C format of IIS.
    W3c,
}

/// `log.access`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSink {
    /// None.
    Off,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}

/// `[[site_system]]`
#[derive(Clone, Debug)]
pub struct SiteSystem {
    /// Its name in logs, metrics and status.
    pub name: String,
    /// Its roles, whose presets make its routes.
    pub roles: Vec<Role>,
    /// Its listen address.
    pub listen: SocketAddr,
    /// Whether it is the default for unknown names on its address.
    pub default: bool,
    /// The networks of load balancers that send the PROXY protocol; the same for all site systems
    /// of an address.
    pub balancers: Vec<IpNet>,
    /// Its host names and addresses, lower case.
    pub hosts: Vec<String>,
    /// Its backend.
    pub backend: BackendConfig,
    /// The backends of single roles.
    pub role_backends: Vec<(Role, BackendConfig)>,
    /// The folder of its PKI certificate.
    pub pki: Option<PkiFolder>,
    /// The trust for client certificates, if clients are asked for them.
    pub clients: Option<ClientCertificates>,
    /// The names of the issuers whose tokens it accepts.
    pub issuers: Vec<String>,
    /// The end of observe mode, if configured: until then, requests that its routes or their tokens
    /// would deny are forwarded.
    pub observe_until: Option<ObserveUntil>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Whether namespaces with Windows authentication are forwarded.
    pub windows_auth: bool,
    /// Whether a client's `traceparent` is forwarded.
    pub trust_traceparent: bool,
    /// The requirements on messages.
    pub messages: MessagePolicy,
    /// The rules of the AltAuth namespaces; `None` denies them.
    pub alt_auth: Option<AltAuth>,
    /// Its plain HTTP listener; `None` if it has none.
    pub plain_http: Option<PlainHttp>,
    /// Whether the token service is offered.
    pub token_service: bool,
    /// Where tokens are read from in a request.
    pub token_sources: Vec<TokenSource>,
    /// The routes: its own on top of its roles'.
    pub routes: RouteTable,
}

impl SiteSystem {
    /// Every address that it listens on, the TLS one first.
    pub fn listens(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.listen).chain(self.plain_http.as_ref().map(|plain| plain.listen))
    }

    /// Whether gateways on other hosts follow it.
    pub fn is_site_server(&self) -> bool {
        self.roles.contains(&Role::SiteServer)
    }

    /// All its backends, its own first.
    pub fn backends(&self) -> impl Iterator<Item = &BackendConfig> {
        let of_roles = self.role_backends.iter().map(|(_, backend)| backend);
        std::iter::once(&self.backend).chain(of_roles)
    }

    /// Its URLs for clients: `https://`, a host, and the port unless it is 443.
    pub fn origins(&self) -> impl Iterator<Item = String> {
        let port = match self.listen.port() {
            443 => String::new(),
            port => format!(":{port}"),
        };
        self.hosts.iter().map(move |host| match host.parse::<Ipv6Addr>() {
            Ok(ip) => format!("https://[{ip}]{port}"),
            Err(_) => format!("https://{host}{port}"),
        })
    }
}

/// A watched folder with a certificate, its key and perhaps its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiFolder {
    /// The folder.
    pub path: PathBuf,
    /// The file with the certificate and the CA certificates above it.
    pub certificate: String,
    /// The file with the key.
    pub key: String,
    /// The file with the root; may be a path elsewhere.
    pub ca: String,
    /// Whether the operator has named it.
    pub ca_named: bool,
    /// Whether clients process more of a chain than is processed here.
    pub process_more: bool,
    /// The source of the password of its PFX files; `None` means an empty password.
    pub password: Option<PasswordSource>,
    /// Whether a world-readable key is used.
    pub key_exposed_allowed: bool,
}

/// The trust for client certificates. All files are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The file with the CAs that vouch for clients.
    pub ca: PathBuf,
    /// The files with the CRLs of those CAs; without any, revocation is not checked.
    pub crls: Vec<PathBuf>,
    /// Whether an expired CRL is still used.
    pub expired_crls_count: bool,
}
