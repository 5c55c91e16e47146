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
    /// What AD FS writes as `iss` into access tokens; `issuer` stands in its identity tokens alone.
    access_token_issuer: Option<String>,
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
        let of_access_tokens = metadata.access_token_issuer.as_ref();
        let of_access_tokens =
            of_access_tokens.filter(|iss| host_of(iss) == Some(discovery.host()));
        let named = [Some(&metadata.issuer), of_access_tokens];
        if !named.into_iter().flatten().any(|iss| self.accepts.contains(iss)) {
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

/// The host of an `iss` that is a URL. AD FS's has the scheme http, and nothing is fetched from it.
fn host_of(iss: &str) -> Option<&str> {
    let rest = iss.strip_prefix("https://").or_else(|| iss.strip_prefix("http://"))?;
    rest.split('/').next()
}

/// Something a server said, for a log line.
fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_speaks_for_the_issuer_of_its_access_tokens_too() {
        let place = Place::parse("https://adfs.example/adfs/.well-known/openid-configuration");
        let place = place.unwrap();
        let provider = |iss: &str| Provider {
            web: Web {
                provider: rustls::crypto::aws_lc_rs::default_provider().into(),
                system: Default::default(),
                ca: None,
                private_hosts: Vec::new(),
            },
            url: String::new(),
            discovery: true,
            accepts: vec![iss.to_owned()],
            key_hosts: Vec::new(),
        };
        let keys = "https://adfs.example/adfs/discovery/keys";
        let trust = "http://adfs.example/adfs/services/trust";
        for (iss, access, found) in [
            (trust, trust, true),
            ("https://adfs.example/adfs", trust, true),
            ("https://adfs.example/adfs", "", true),
            ("https://other.example", trust, false),
            // Only of its own host.
            (
                "http://other.example/adfs/services/trust",
                "http://other.example/adfs/services/trust",
                false,
            ),
            ("http://adfs.example.evil/trust", "http://adfs.example.evil/trust", false),
        ] {
            let document = format!(
                r#"{{"issuer":"https://adfs.example/adfs","access_token_issuer":"{access}","jwks_uri":"{keys}"}}"#
            );
            let read = provider(iss).key_place(&place, document.as_bytes());
            assert_eq!(
                read.map_err(|error| error.fault),
                match found {
                    true => Ok(keys.to_owned()),
                    false => Err(FetchFault::Issuer),
                },
                "{iss} {access}"
            );
        }
    }
}
