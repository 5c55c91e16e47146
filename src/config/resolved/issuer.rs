//! `[[token_issuer]]`: whose tokens are accepted, and where their keys are.

use std::path::PathBuf;
use std::time::Duration;

/// `[[token_issuer]]`
#[derive(Clone, Debug)]
pub struct Issuer {
    /// What is accepted from it.
    pub policy: crate::token::Issuer,
    /// Where its keys are.
    pub keys: KeySource,
}

/// Where an issuer's keys are.
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
    /// The JWK set, or the discovery document that says where it is.
    pub url: String,
    /// Whether it is the discovery document.
    pub discovery: bool,
    /// Hosts besides the discovery document's that keys may come from.
    pub key_hosts: Vec<String>,
    /// Hosts whose addresses may be private.
    pub private_hosts: Vec<String>,
    /// The roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// How old keys may become; what the issuer says, without it.
    pub refresh: Option<Duration>,
    /// The least time between two fetches for a key that is missed.
    pub refetch_interval: Duration,
}
