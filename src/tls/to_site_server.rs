//! The TLS client configuration for a site server: verified with the site's roots, or at the join
//! with the root key that the join token pins.
//!
//! No trust on first use, and no use of the system's roots.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::cert::{Facts, spki_sha256};

/// The trust anchor for a site server.
#[derive(Clone, Debug)]
pub enum SiteServerTrust {
    /// The site's roots.
    Roots(RootCertStore),
    /// The SHA-256 of its root's public key, base64url: the chain must include that root.
    RootKey(String),
}

/// The pin of a root's key, as in join tokens: the SHA-256 of its SubjectPublicKeyInfo, base64url.
/// `None` if the bytes are not a certificate.
pub fn root_key_name(der: &[u8]) -> Option<String> {
    spki_sha256(der).map(|hash| URL_SAFE_NO_PAD.encode(hash))
}

/// A configuration with a client certificate (mutual TLS).
///
/// # Errors
/// If the certificate and its key cannot be used, or the trust is empty.
pub fn to_site_server(
    trust: SiteServerTrust,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, Error> {
    let begun = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])?;
    let verifier = OfTheSite { trust, provider: provider.clone() };
    let trusting = begun.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    trusting.with_client_auth_cert(chain, key)
}

/// Verifies a chain with the site's roots, or with the root in it that has the pinned key.
///
/// Accepts a certificate that is not valid yet: then the clock of this machine is behind, and a
/// gateway with a wrong clock must still receive blocks. Rejects an expired one: its key may be
/// compromised by now.
#[derive(Debug)]
struct OfTheSite {
    trust: SiteServerTrust,
    provider: Arc<CryptoProvider>,
}

impl OfTheSite {
    fn roots(&self, intermediates: &[CertificateDer<'_>]) -> Option<RootCertStore> {
        match &self.trust {
            SiteServerTrust::Roots(roots) => Some(roots.clone()),
            SiteServerTrust::RootKey(name) => {
                let is_it = |der: &&CertificateDer<'_>| root_key_name(der).as_ref() == Some(name);
                let root = intermediates.iter().find(is_it)?;
                let mut roots = RootCertStore::empty();
                roots.add(root.clone().into_owned()).ok()?;
                Some(roots)
            }
        }
    }
}

/// The first moment at which all of these are valid, if it is in the future.
fn begins<'a>(
    certificates: impl Iterator<Item = &'a CertificateDer<'a>>,
    now: UnixTime,
) -> Option<UnixTime> {
    let begins = certificates.filter_map(|der| Facts::of(der).ok()).map(|facts| facts.not_before);
    let second = u64::try_from(begins.max()?.as_second()).ok()?;
    (second > now.as_secs()).then(|| UnixTime::since_unix_epoch(Duration::from_secs(second)))
}

impl ServerCertVerifier for OfTheSite {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let stranger = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let roots = self.roots(intermediates).ok_or_else(stranger)?;
        let judge =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
        let judge = judge.build().map_err(|_| stranger())?;
        let at = begins(intermediates.iter().chain([end_entity]), now).unwrap_or(now);
        judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The SHA-256 thumbprint of a certificate, as in RFC 8705.
pub fn x5t_s256(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der))
}
