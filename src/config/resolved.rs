//! What a configuration means: every default filled in, every name looked up, every path absolute.

mod backend;
mod following;
mod issuer;
mod judging;

use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use backend::{Backend, BackendAddress, BackendTimes};
pub use following::Following;
pub use issuer::{Issuer, KeySource, KeyUrl};
pub use judging::{AltAuth, MessageGuard, ObserveUntil, PlainHttp, PlainHttpMode};

use crate::route::{Role, RouteTable};
use crate::secret::PasswordSource;
use crate::token::{SignerKind, TokenSource};

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site.
    pub site: Site,
    /// Where page, API and status are served.
    pub admin: SocketAddr,
    /// Where metrics and health are served.
    pub metrics: SocketAddr,
    /// What is logged, and where.
    pub log: Logging,
    /// What one client, and all of them, may take.
    pub limits: Limits,
    /// The service that gives clients their tokens.
    pub token_service: TokenService,
    /// The site server that this gateway follows, where it has no authority of its own.
    pub site_server: Option<Following>,
    /// The site systems, in the order of the file.
    pub site_systems: Vec<SiteSystem>,
    /// Whose tokens are accepted, in the order of the file.
    pub issuers: Vec<Issuer>,
}

/// `[site]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The three characters of the site code.
    pub code: String,
    /// The hierarchy's GUID.
    pub hierarchy: Option<uuid::Uuid>,
    /// The state directory.
    pub state: PathBuf,
    /// The domains that the site may issue certificates for.
    pub domains: Vec<String>,
    /// The SHA-256 thumbprints of the site's roots, upper-case hexadecimal; none if any will do.
    pub roots: Vec<String>,
    /// Whether the site issues certificates where no PKI does.
    pub issues_certificates: bool,
    /// What kind of site it is.
    pub kind: SiteKind,
    /// Below which URL clients find lists of revoked certificates.
    pub crl_url: Option<String>,
    /// The kind of key of the issuing authority.
    pub authority_key: AuthorityKey,
    /// The `iss` of the site's own tokens.
    pub token_issuer: String,
    /// The file that says which tokens, devices and users are refused.
    pub blocklist: Option<PathBuf>,
    /// What seals the site's keys in a store that several site servers share.
    pub seal: Option<PasswordSource>,
}

/// `site.kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// A site with clients.
    Primary,
    /// A site above others, whose one role for us is the SMS Provider.
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
    /// How log lines on standard error look.
    pub format: LogFormat,
    /// Which lines are written: a level, or a filter in the form of `RUST_LOG`.
    pub level: String,
    /// The folder of logs that CMTrace reads, if there are to be any.
    pub cmtrace: Option<PathBuf>,
    /// How the lines of the access log look.
    pub access_format: AccessFormat,
    /// Where the access log goes.
    pub access: LogSink,
}

/// `[token_service]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenService {
    /// Where it is on each site system that has it: canonical, without a slash at its end.
    pub path: String,
    /// Whether a client that proves itself is let in at once.
    pub approval_automatic: bool,
    /// Whether a client may bring a device id that the site does not know.
    pub claims_accepted: bool,
    /// What the site's tokens are signed with.
    pub signing: SignerKind,
    /// How long after its last token a client may come back.
    pub return_grace: Duration,
    /// Registrations from one address in a minute.
    pub registrations_per_minute: NonZeroU32,
    /// Other requests from one address in a minute.
    pub requests_per_minute: NonZeroU32,
    /// Where the site's store is.
    pub store: TokenServiceStore,
}

impl TokenService {
    /// The socket on which it answers the gateway.
    pub fn socket(state: &Path) -> PathBuf {
        state.join("token-service.sock")
    }
}

/// `token_service.store`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenServiceStore {
    /// A file in the state directory.
    Embedded,
    /// A PostgreSQL database, whose URL is there.
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
    /// As Apache and nginx have it.
    Combined,
    /// As IIS has it.
    W3c,
}

/// `log.access`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSink {
    /// Nowhere.
    Off,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Shards, each a thread; as many as the machine has processors unless set.
    pub threads: usize,
    /// What one connection may take.
    pub connection: ConnLimits,
    /// Fields in a request head.
    pub headers: usize,
    /// Bytes of a request target.
    pub uri_bytes: usize,
    /// How long requests under way may go on after SIGTERM.
    pub drain_time: Duration,
    /// How many verified tokens are remembered.
    pub token_cache: usize,
}

/// What one connection may take. Applies to connections accepted after it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnLimits {
    /// Connections at once, over all listeners.
    pub connections_max: usize,
    /// TLS handshakes at once, over all listeners; more wait within their handshake time.
    pub handshakes_max: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64; `None` does not count.
    pub per_address_max: Option<usize>,
    /// From accept to the end of the TLS handshake.
    pub handshake_time: Duration,
    /// From the first byte of a request head to its last.
    pub header_time: Duration,
    /// The bytes of a request head.
    pub header_bytes: usize,
    /// Without a request under way.
    pub idle_time: Duration,
    /// The least bytes per second of a request body, once `body_grace` is used up.
    pub body_bytes_per_second: u32,
    /// How long a request body may stall or fall behind the rate.
    pub body_grace: Duration,
    /// How long a client may take nothing of a response that is ready for it.
    pub send_stall: Duration,
}

impl Default for ConnLimits {
    fn default() -> Self {
        ConnLimits {
            connections_max: 20_000,
            handshakes_max: 512,
            per_address_max: None,
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(20),
            header_bytes: 64 * 1024,
            idle_time: Duration::from_secs(120),
            body_bytes_per_second: 240,
            body_grace: Duration::from_secs(30),
            send_stall: Duration::from_secs(300),
        }
    }
}

/// `[[site_system]]`
#[derive(Clone, Debug)]
pub struct SiteSystem {
    /// Its name in logs, metrics and status.
    pub name: String,
    /// Its roles, whose presets make its routes.
    pub roles: Vec<Role>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether it is the default for unknown names on its address.
    pub default: bool,
    /// The networks of load balancers that speak the PROXY protocol; the same for all site systems
    /// of an address.
    pub balancers: Vec<IpNet>,
    /// The names and addresses it answers to, lower case.
    pub hosts: Vec<String>,
    /// Where requests go.
    pub backend: Backend,
    /// Where those of single roles go instead.
    pub role_backends: Vec<(Role, Backend)>,
    /// Where its PKI certificate lies.
    pub pki: Option<PkiFolder>,
    /// Whose certificates clients are asked for, if they are.
    pub clients: Option<ClientCertificates>,
    /// The names of the issuers whose tokens it accepts.
    pub issuers: Vec<String>,
    /// Until when requests that its routes or their tokens speak against go on all the same, where
    /// it observes.
    pub observe_until: Option<ObserveUntil>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// Whether namespaces with Windows authentication are carried.
    pub windows_auth: bool,
    /// Whether a client's `traceparent` is carried on.
    pub trust_traceparent: bool,
    /// What the messages of clients with a token have to be.
    pub message_guard: MessageGuard,
    /// The endpoints that they may be for; `None` for any.
    pub message_endpoints: Option<Vec<String>>,
    /// What messages without a token may ask for besides what clients without one need.
    pub message_requests: Vec<String>,
    /// Who may use the AltAuth namespaces; `None` for nobody.
    pub alt_auth: Option<AltAuth>,
    /// What it does with plain HTTP; `None` where it does not listen for it.
    pub plain_http: Option<PlainHttp>,
    /// Whether the token service is offered.
    pub token_service: bool,
    /// Where clients put their tokens.
    pub token_sources: Vec<TokenSource>,
    /// The routes: its own on top of its roles'.
    pub routes: RouteTable,
}

impl SiteSystem {
    /// Every address that it listens on, that of TLS first.
    pub fn listens(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.listen).chain(self.plain_http.as_ref().map(|plain| plain.listen))
    }

    /// Whether gateways on other hosts follow it.
    pub fn is_site_server(&self) -> bool {
        self.roles.contains(&Role::SiteServer)
    }

    /// The socket on which the site server of this process answers.
    pub fn site_server_socket(state: &Path) -> PathBuf {
        state.join("site-server.sock")
    }

    /// The socket on which this process gives out what its authority publishes.
    pub fn publication_socket(state: &Path) -> PathBuf {
        state.join("publication.sock")
    }

    /// All its backends, its own first.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let of_roles = self.role_backends.iter().map(|(_, backend)| backend);
        std::iter::once(&self.backend).chain(of_roles)
    }

    /// How clients address it: `https://`, a host, and the port unless it is 443.
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

/// A watched folder with a certificate, its key and perhaps the root that stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiFolder {
    /// The folder.
    pub path: PathBuf,
    /// The file with the certificate and the authorities above it.
    pub certificate: String,
    /// The file with the key.
    pub key: String,
    /// The file with the root; a path elsewhere is as good.
    pub ca: String,
    /// Whether the operator has named it.
    pub ca_named: bool,
    /// Whether clients process more of a chain than is processed here.
    pub process_more: bool,
    /// What opens its PFX files; an empty password if nothing is said.
    pub password: Option<PasswordSource>,
    /// Whether a key that everyone can read is used.
    pub key_exposed_allowed: bool,
}

/// By what client certificates are judged. All files are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The file with the authorities that vouch for clients.
    pub ca: PathBuf,
    /// The files with what those authorities have revoked; without any, revocation is not looked
    /// at.
    pub crls: Vec<PathBuf>,
    /// Whether a list that has expired still counts.
    pub expired_crls_count: bool,
}
