//! A token issuer's published keys: a JWK set at a configured URL or found by OIDC discovery.
//!
//! Keys come only from the configured host or from a host in `key_hosts`.

use std::future::Future;

use serde::Deserialize;

use super::fetch::{Document, FetchError, FetchFault, FetchUrl, Web};
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

/// A source of an issuer's published keys.
pub trait Provides: Send {
    /// Fetches the keys now.
    fn fetch(&self) -> impl Future<Output = Result<Published, FetchError>> + Send;
}

/// An issuer on the network.
pub struct Provider {
    /// The HTTPS client.
    pub web: Web,
    /// The URL of its key set or of its discovery document.
    pub url: String,
    /// Whether `url` is that of a discovery document.
    pub discovery: bool,
    /// The accepted values of `iss`; the discovery document must name one of them.
    pub accepts: Vec<String>,
    /// Hosts that keys may come from, besides the discovery document's host.
    pub key_hosts: Vec<String>,
}

/// The metadata that is used from OpenID Connect Discovery 1.0 §3; RFC 8414 §2 has the same names.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    /// The `iss` that AD FS writes into access tokens; `issuer` appears only in its identity
    /// tokens.
    access_token_issuer: Option<String>,
    jwks_uri: String,
}

impl Provides for Provider {
    async fn fetch(&self) -> Result<Published, FetchError> {
        let place = if self.discovery { self.discover().await? } else { self.url.clone() };
        let document = self.web.fetch(&FetchUrl::parse(&place)?, FILE_BYTES_MAX).await?;
        Ok(Published { from: place, document })
    }
}

impl Provider {
    /// Fetches the keys without storing them. Returns the `Date` header of the response.
    ///
    /// # Errors
    /// Why the fetch failed.
    pub async fn look(&self) -> Result<Option<String>, FetchError> {
        self.fetch().await.map(|published| published.document.date)
    }

    async fn discover(&self) -> Result<String, FetchError> {
        let place = FetchUrl::parse(&self.url)?;
        let found = self.web.fetch(&place, DISCOVERY_BYTES_MAX).await?;
        self.key_place(&place, &found.body)
    }

    /// The `jwks_uri` of the discovery document, if the document may name it.
    fn key_place(&self, discovery: &FetchUrl, document: &[u8]) -> Result<String, FetchError> {
        let metadata: Metadata = serde_json::from_slice(document).map_err(|_| {
            let detail = "the discovery document is not JSON with issuer and jwks_uri";
            FetchError::new(FetchFault::Malformed, detail)
        })?;
        // Discovery 1.0 §4.3: otherwise one issuer could speak for another.
        let of_access_tokens = metadata.access_token_issuer.as_ref();
        let of_access_tokens =
            of_access_tokens.filter(|iss| host_of(iss) == Some(discovery.host()));
        let named = [Some(&metadata.issuer), of_access_tokens];
        if !named.into_iter().flatten().any(|iss| self.accepts.contains(iss)) {
            let told = shown(&metadata.issuer);
            let detail = format!("the discovery document is of another issuer: {told}");
            return Err(FetchError::new(FetchFault::Issuer, detail));
        }
        let keys = FetchUrl::parse(&metadata.jwks_uri)?;
        let named = self.key_hosts.iter().any(|host| host.eq_ignore_ascii_case(keys.host()));
        if keys.host() != discovery.host() && !named {
            let detail = format!(
                "jwks_uri is on another host, {}; if that is intended, name it in key_hosts",
                keys.host()
            );
            return Err(FetchError::new(FetchFault::Address, detail));
        }
        Ok(metadata.jwks_uri)
    }
}

/// The host of an `iss` that is a URL. AD FS's has the scheme http; nothing is fetched from it.
fn host_of(iss: &str) -> Option<&str> {
    let rest = iss.strip_prefix("https://").or_else(|| iss.strip_prefix("http://"))?;
    rest.split('/').next()
}

/// Text from a server, made printable and short for a log line.
fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_names_its_access_token_issuer() {
        let place = FetchUrl::parse("https://adfs.example/adfs/.well-known/openid-configuration");
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
            // Accepted only for its own host.
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
                if found { Ok(keys.to_owned()) } else { Err(FetchFault::Issuer) },
                "{iss} {access}"
            );
        }
    }
}
