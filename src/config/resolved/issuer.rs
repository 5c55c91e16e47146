//! `[[token_issuer]]`: trusted token issuers, and the sources of their keys.

use std::path::PathBuf;
use std::time::Duration;

/// `[[token_issuer]]`
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// The rules for its tokens.
    pub policy: crate::token::Issuer,
    /// The source of its keys.
    pub keys: KeySource,
}

/// The source of an issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Watched files: JWKS, PEM public keys, certificates.
    Files(Vec<PathBuf>),
    /// A URL.
    Url(KeyUrl),
    /// The site's own token key.
    Site,
}

/// Keys that are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUrl {
    /// The URL of the JWK set, or of the discovery document that names it.
    pub url: String,
    /// Whether it is that of a discovery document.
    pub discovery: bool,
    /// Hosts that keys may come from, besides the discovery document's host.
    pub key_hosts: Vec<String>,
    /// Hosts whose addresses may be private.
    pub private_hosts: Vec<String>,
    /// The roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The maximum age of the keys; by default the one that the issuer declares.
    pub refresh: Option<Duration>,
    /// The minimum time between two fetches that unknown keys trigger.
    pub refetch_interval: Duration,
}
