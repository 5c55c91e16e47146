//! The configuration of TLS towards a site server: known by the site's roots, or at first by the
//! root key that the join token names.
//!
//! Trusts nobody at first sight, and not the system's roots.

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

/// By what a site server is known.
#[derive(Clone, Debug)]
pub enum SiteServerTrust {
    /// The site's roots.
    Roots(RootCertStore),
    /// The SHA-256 of its root's public key, base64url: the root itself is in the chain.
    RootKey(String),
}

/// The name of a root by its key, as join tokens have it: the SHA-256 of its SubjectPublicKeyInfo,
/// base64url. `None` for what is no certificate.
pub fn root_key_name(der: &[u8]) -> Option<String> {
    spki_sha256(der).map(|hash| URL_SAFE_NO_PAD.encode(hash))
}

/// A configuration that shows a certificate of one's own.
///
/// # Errors
/// If the certificate and its key cannot be used, or nobody at all is trusted.
pub fn to_site_server(
    trust: SiteServerTrust,
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, Error> {
    let begun = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])?;
    let verifier = OfTheSite { trust, provider: provider.clone() };
    let trusting = begun.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    trusting.with_client_auth_cert(chain, key)
}

/// Judges a chain by the site's roots, or by the root in it that has the key.
///
/// A certificate that is not valid yet is taken: the clock of this machine is behind then, and a
/// gateway with a wrong clock must hear of blocks all the same. One that has expired is not: its key
/// may be anybody's by now.
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

/// The first moment at which all of these are valid, if that is still to come.
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

/// The SHA-256 of a certificate, as RFC 8705 names it.
pub fn x5t_s256(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der))
}
