//! A token issuer's keys as it publishes them: a JWK set at a URL, found by discovery or named.
//!
//! Keys come from the host that was configured, or from one that was named beside it.

use std::future::Future;

use serde::Deserialize;

use super::fetch::{Document, FetchError, FetchFault, Place, Web};
use crate::token::FILE_BYTES_MAX;

const DISCOVERY_BYTES_MAX: usize = 64 * 1024;

/// A key set as it was fetched.
#[derive(Debug)]
pub struct Published {
    /// Where it came from.
    pub(super) from: String,
    /// The whole document.
    pub(super) document: Document,
}

/// Where an issuer's keys are published.
pub trait Provides: Send {
    /// Fetch them now.
    fn fetch(&self) -> impl Future<Output = Result<Published, FetchError>> + Send;
}

/// An issuer on the network.
pub struct Provider {
    /// The way to it.
    pub web: Web,
    /// Its key set, or its discovery document.
    pub url: String,
    /// Which of the two.
    pub discovery: bool,
    /// The values of `iss` of which the discovery document must name one.
    pub accepts: Vec<String>,
    /// Hosts besides the discovery document's that keys may come from.
    pub key_hosts: Vec<String>,
}

/// OpenID Connect Discovery 1.0 §3, as far as it matters here; RFC 8414 §2 has the same names.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Provides for Provider {
    async fn fetch(&self) -> Result<Published, FetchError> {
        let place = match self.discovery {
            true => self.discover().await?,
            false => self.url.clone(),
        };
        let document = self.web.fetch(&Place::parse(&place)?, FILE_BYTES_MAX).await?;
        Ok(Published { from: place, document })
    }
}

impl Provider {
    /// Fetch the keys and keep nothing: the Date of whoever gave them, as it says.
    ///
    /// # Errors
    /// Why they could not be fetched.
    pub async fn look(&self) -> Result<Option<String>, FetchError> {
        self.fetch().await.map(|published| published.document.date)
    }

    async fn discover(&self) -> Result<String, FetchError> {
        let place = Place::parse(&self.url)?;
        let found = self.web.fetch(&place, DISCOVERY_BYTES_MAX).await?;
        self.key_place(&place, &found.body)
    }

    /// Where the discovery document says the keys are, if it may say so.
    fn key_place(&self, discovery: &Place, document: &[u8]) -> Result<String, FetchError> {
        let metadata: Metadata = serde_json::from_slice(document).map_err(|_| {
            let detail = "the discovery document is no JSON with issuer and jwks_uri";
            FetchError::new(FetchFault::Malformed, detail)
        })?;
        // Discovery 1.0 §4.3: else one issuer could speak for another.
        if !self.accepts.contains(&metadata.issuer) {
            let told = shown(&metadata.issuer);
            let detail = format!("the discovery document is the one of issuer {told}");
            return Err(FetchError::new(FetchFault::Issuer, detail));
        }
        let keys = Place::parse(&metadata.jwks_uri)?;
        let named = self.key_hosts.iter().any(|host| host.eq_ignore_ascii_case(keys.host()));
        if keys.host() != discovery.host() && !named {
            let detail = format!(
                "jwks_uri is on another host, {}; name it in key_hosts if that is meant",
                keys.host()
            );
            return Err(FetchError::new(FetchFault::Address, detail));
        }
        Ok(metadata.jwks_uri)
    }
}

/// Something a server said, for a log line.
fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}
