//! What status shows: the words are those of metrics, logs and documentation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::history::Interval;

/// The whole state of a process, for people and scripts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The running version.
    pub version: String,
    /// The site.
    #[serde(default)]
    pub site: SiteStatus,
    /// The process.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// Whether it should be sent requests.
    pub ready: bool,
    /// Why not.
    pub not_ready: Vec<String>,
    /// What needs attention though it is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Client connections that are open.
    pub connections: usize,
    /// The configuration.
    pub config: ConfigStatus,
    /// The site systems, in the order of the configuration.
    pub site_systems: Vec<SiteSystemStatus>,
    /// The backends, as requests found them.
    #[serde(default)]
    pub backends: Vec<BackendStatus>,
    /// The token issuers.
    pub issuers: Vec<IssuerStatus>,
    /// What it has from the site server that it follows, if it follows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_server: Option<SiteServerStatus>,
    /// What was counted in the last hour, minute by minute, the oldest first.
    #[serde(default)]
    pub last_hour: Vec<Interval>,
}

/// The site.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Its code.
    pub code: String,
    /// The hierarchy that it belongs to, where that is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hierarchy: Option<String>,
    /// The domains that it may issue certificates for.
    pub domains: Vec<String>,
    /// The `iss` of its own tokens.
    pub token_issuer: String,
}

/// What a gateway has from its site server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteServerStatus {
    /// The name by which this gateway has joined, or will.
    pub gateway: String,
    /// Where the site's servers are; none before it has joined.
    pub servers: Vec<String>,
    /// The version of the bundle in force; none before it has joined.
    pub version: Option<u64>,
    /// When that was made.
    pub issued: Option<Timestamp>,
    /// When it is out of date.
    pub expires: Option<Timestamp>,
    /// How many devices, users, tokens and times it blocks.
    pub blocks: usize,
    /// How many seconds the site server's clock is ahead of this machine's, as it was seen last.
    #[serde(default)]
    pub clock_ahead_s: Option<i64>,
    /// What stands between this gateway and its site server at present.
    #[serde(default)]
    pub trouble: Option<String>,
    /// What of this needs attention, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The configuration that is in force, and what became of the last one read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file.
    pub path: String,
    /// Since when it is in force.
    pub since: Timestamp,
    /// Whether the file as it was last read is the one in force.
    pub current: bool,
    /// What is wrong with the file, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Plain HTTP of a site system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlainHttpStatus {
    /// The address, with the port that was really taken.
    pub listen: String,
    /// What becomes of requests there: `refuse`, `redirect` or `pass`.
    pub mode: String,
}

/// One site system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteSystemStatus {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Where it listens.
    pub listen: String,
    /// Where it listens for plain HTTP, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_http: Option<PlainHttpStatus>,
    /// The names it answers to.
    pub hosts: Vec<String>,
    /// Its open connections, by the version of TLS.
    #[serde(default)]
    pub connections: BTreeMap<String, usize>,
    /// Where requests go.
    pub backend: String,
    /// Where those of single roles go instead.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub role_backends: BTreeMap<String, String>,
    /// Whether requests that would be denied go on at present.
    #[serde(default)]
    pub observes: bool,
    /// Until when they were told to, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe_until: Option<Timestamp>,
    /// The certificate that the next client will be shown.
    pub certificate: Option<CertificateStatus>,
    /// Why this one, or why none.
    pub reason: String,
    /// Until when an OCSP response is stapled to it, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stapled_until: Option<Timestamp>,
    /// What may not be served, and why.
    pub rejected: Vec<RejectedStatus>,
    /// What hinders nothing and should be mended.
    pub warnings: Vec<String>,
    /// By what client certificates are judged, where clients are asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientsStatus>,
    /// When the choice may change by itself.
    pub next_change: Option<Timestamp>,
    /// Since when this certificate is served.
    pub since: Timestamp,
    /// How often it was replaced.
    pub swaps: u64,
}

/// A backend, as requests found it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its host and port, or the path of its socket.
    pub name: String,
    /// The site systems whose requests go there.
    pub site_systems: Vec<String>,
    /// The mean time, in milliseconds, from the last byte of a request to the head of its answer,
    /// over the last minute; none without a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<f64>,
    /// Its addresses; none while its name does not resolve.
    pub addresses: Vec<BackendAddressStatus>,
}

/// One address of a backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendAddressStatus {
    /// The address.
    pub address: String,
    /// `up`, `down`, or `unknown` before the first request.
    pub state: String,
    /// Since when it is in that state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When a request last failed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// Why that failed: a code of the documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How many requests have failed since the last that did not.
    pub failures_in_a_row: u32,
}

/// By what client certificates are judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientsStatus {
    /// Authorities that are trusted.
    pub authorities: usize,
    /// Lists of revoked certificates that are asked.
    pub crls: usize,
    /// When the first of those lists expires, or did.
    pub crl_expires: Option<Timestamp>,
    /// What is wrong with the files.
    pub problems: Vec<String>,
}

/// A certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// `pki` or `site-issued`.
    pub source: String,
    /// The subject's name.
    pub subject: String,
    /// The issuer's name.
    pub issuer: String,
    /// The serial number, hexadecimal.
    pub serial: String,
    /// The names in it.
    pub names: Vec<String>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// SHA-1 of the DER, upper-case hexadecimal, as Windows shows it.
    pub thumbprint: String,
    /// SHA-256 of the DER, upper-case hexadecimal.
    pub thumbprint_sha256: String,
    /// The kind of key.
    pub key: String,
}

/// A certificate that may not be served.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RejectedStatus {
    /// `pki` or `site-issued`.
    pub source: String,
    /// Why: a code of the documentation.
    pub reason: String,
    /// The same as a sentence.
    pub title: String,
    /// What exactly.
    pub detail: String,
    /// How to mend it.
    pub hint: String,
    /// What is known of the certificate.
    pub certificate: Option<CertificateStatus>,
}

/// A token issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuerStatus {
    /// Its name.
    pub name: String,
    /// The `iss` values that are its.
    pub accepts: Vec<String>,
    /// The audiences that mean this site.
    pub audiences: Vec<String>,
    /// Usable keys.
    pub keys: usize,
    /// The names of those that have one.
    #[serde(default)]
    pub key_ids: Vec<String>,
    /// Where they are fetched, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_from: Option<String>,
    /// When they were last fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_fetched: Option<Timestamp>,
    /// What is wrong with its keys, or with fetching them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
