//! The status document. Its words are those of metrics, logs and documentation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::history::Interval;
use crate::cert::Facts;

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
    /// Whether it should receive requests.
    pub ready: bool,
    /// Why not.
    pub not_ready: Vec<String>,
    /// Warnings while it is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Client connections that are open.
    pub connections: usize,
    /// The configuration.
    pub config: ConfigStatus,
    /// The site systems, in the order of the configuration.
    pub site_systems: Vec<SiteSystemStatus>,
    /// The backends, with the health that requests found.
    #[serde(default)]
    pub backends: Vec<BackendStatus>,
    /// The token issuers.
    pub issuers: Vec<IssuerStatus>,
    /// The state of the site server that it follows, if it follows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_server: Option<SiteServerStatus>,
    /// The counts of the last hour, minute by minute, the oldest first.
    #[serde(default)]
    pub last_hour: Vec<Interval>,
}

/// The site.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Its code.
    pub code: String,
    /// The hierarchy that it belongs to, if configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hierarchy: Option<String>,
    /// The domains that it may issue certificates for.
    pub domains: Vec<String>,
    /// The `iss` of its own tokens.
    pub token_issuer: String,
}

/// The state of a gateway's site server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteServerStatus {
    /// The name with which this gateway has joined, or will.
    pub gateway: String,
    /// The URLs of the site's servers; none before it has joined.
    pub servers: Vec<String>,
    /// The version of the bundle in force; none before it has joined.
    pub version: Option<u64>,
    /// When that bundle was made.
    pub issued: Option<Timestamp>,
    /// When that bundle expires.
    pub expires: Option<Timestamp>,
    /// The number of blocks in it: of devices, users, tokens and times.
    pub blocks: usize,
    /// How many seconds the site server's clock is ahead of this machine's, at the last response.
    #[serde(default)]
    pub clock_ahead_s: Option<i64>,
    /// The current problem between this gateway and its site server.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Warnings, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The configuration in force, and the result of the last reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file.
    pub path: String,
    /// Since when it is in force.
    pub since: Timestamp,
    /// Whether the file as last read is the one in force.
    pub current: bool,
    /// The fault of the file, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Plain HTTP of a site system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlainHttpStatus {
    /// The address, with the actual port.
    pub listen: String,
    /// The handling of requests there: `refuse`, `redirect` or `pass`.
    pub mode: String,
}

/// One site system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteSystemStatus {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its listen address.
    pub listen: String,
    /// Its plain HTTP listener, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_http: Option<PlainHttpStatus>,
    /// Its host names and addresses.
    pub hosts: Vec<String>,
    /// Its open connections, by TLS version.
    #[serde(default)]
    pub connections: BTreeMap<String, usize>,
    /// Its backend.
    pub backend: String,
    /// The backends of single roles.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub role_backends: BTreeMap<String, String>,
    /// Whether it is observing now: requests that would be denied are forwarded.
    #[serde(default)]
    pub observes: bool,
    /// Until when it is configured to observe, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe_until: Option<Timestamp>,
    /// The certificate that the next client receives.
    pub certificate: Option<CertificateStatus>,
    /// Why this one, or why none.
    pub reason: String,
    /// Until when an OCSP response is stapled to it, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stapled_until: Option<Timestamp>,
    /// The certificates that may not be served, with the reasons.
    pub rejected: Vec<RejectedStatus>,
    /// Faults that should be fixed but do not stop the certificate from being served.
    pub warnings: Vec<String>,
    /// The trust for client certificates, if clients are asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientsStatus>,
    /// When the selection may change by itself.
    pub next_change: Option<Timestamp>,
    /// Since when this certificate is served.
    pub since: Timestamp,
    /// How often it was replaced.
    pub swaps: u64,
}

/// A backend, with the health that requests found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its host and port, or the path of its socket.
    pub name: String,
    /// The site systems whose requests go there.
    pub site_systems: Vec<String>,
    /// The mean time, in milliseconds, from the last byte of a request to the head of its response,
    /// over the last minute; none without a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<f64>,
    /// Its addresses; empty while its name does not resolve.
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
    /// When it last responded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When a request last failed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// The reason: a code of the documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How to fix it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How many requests have failed since the last success.
    pub failures_in_a_row: u32,
}

/// The trust for client certificates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientsStatus {
    /// Trusted CAs.
    pub authorities: usize,
    /// CRLs that are checked.
    pub crls: usize,
    /// When the first of those CRLs expires, or expired.
    pub crl_expires: Option<Timestamp>,
    /// The faults of the files.
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
    /// Its subject alternative names.
    pub names: Vec<String>,
    /// The start of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// SHA-1 of the DER, upper-case hexadecimal, as Windows shows it.
    pub thumbprint: String,
    /// SHA-256 of the DER, upper-case hexadecimal.
    pub thumbprint_sha256: String,
    /// The kind and size of its key.
    pub key: String,
}

impl CertificateStatus {
    /// The status of a certificate of a source.
    pub fn new(source: &str, facts: &Facts) -> Self {
        let ips = facts.ips.iter().map(ToString::to_string);
        CertificateStatus {
            source: source.to_owned(),
            subject: facts.subject.clone(),
            issuer: facts.issuer.clone(),
            serial: facts.serial.clone(),
            names: facts.dns.iter().cloned().chain(ips).collect(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            thumbprint: facts.sha1.clone(),
            thumbprint_sha256: facts.sha256.clone(),
            key: format!("{:?} {}", facts.key, facts.key_bits),
        }
    }
}

/// A certificate that may not be served.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RejectedStatus {
    /// `pki` or `site-issued`.
    pub source: String,
    /// The reason: a code of the documentation.
    pub reason: String,
    /// The same as a sentence.
    pub title: String,
    /// The details.
    pub detail: String,
    /// How to fix it.
    pub hint: String,
    /// The certificate, if it could be read.
    pub certificate: Option<CertificateStatus>,
}

/// A token issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuerStatus {
    /// Its name.
    pub name: String,
    /// Its accepted `iss` values.
    pub accepts: Vec<String>,
    /// The audiences that stand for this site.
    pub audiences: Vec<String>,
    /// The number of usable keys.
    pub keys: usize,
    /// The ids of the keys that have one.
    #[serde(default)]
    pub key_ids: Vec<String>,
    /// The URL that they are fetched from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_from: Option<String>,
    /// When they were last fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_fetched: Option<Timestamp>,
    /// The problems of its keys, or of fetching them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
