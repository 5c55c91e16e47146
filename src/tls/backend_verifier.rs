//! Verifies a backend's certificate against the roots that the operator named for it.
//!
//! A root counts only within its validity, and a certificate that is itself in the file is trusted
//! (pinned): most self-made backend certificates come from `openssl req -x509`, which marks them as
//! a CA.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::anchor::{Anchor, AnchorFault};
use crate::cert::{Anchors, Facts};
use crate::clock::second;

/// Verifies with roots, and with pinned certificates.
#[derive(Debug)]
pub(super) struct BackendVerifier {
    pub(super) anchors: Anchors,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let at = second(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let refused = |why| Err(Error::InvalidCertificate(why));
        let unfit = |fault: AnchorFault| CertificateError::Other(OtherError(Arc::new(fault)));
        if let Some(pin) = self.anchors.iter().find(|anchor| anchor.der() == end_entity) {
            return pinned(pin, at, server_name);
        }
        let roots = self.anchors.trusted_for(end_entity, at);
        if roots.is_empty() {
            let fault = self.anchors.iter().find_map(|anchor| anchor.fit_at(at).err());
            return refused(fault.map_or(CertificateError::UnknownIssuer, unfit));
        }
        let roots = Arc::new(RootCertStore { roots });
        let judge = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone());
        let Ok(judge) = judge.build() else { return refused(CertificateError::UnknownIssuer) };
        judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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

/// Verifies a pinned certificate: its validity, its names and its usage still count.
fn pinned(
    pin: &Anchor,
    at: jiff::Timestamp,
    server_name: &ServerName<'_>,
) -> Result<ServerCertVerified, Error> {
    let refused = |why| Err(Error::InvalidCertificate(why));
    match pin.fit_for(pin.der(), at) {
        Ok(()) => {}
        Err(AnchorFault::Expired(_)) => return refused(CertificateError::Expired),
        Err(AnchorFault::NotYetValid(_)) => return refused(CertificateError::NotValidYet),
        Err(fault) => return refused(CertificateError::Other(OtherError(Arc::new(fault)))),
    }
    let facts = Facts::of(pin.der()).map_err(|_| CertificateError::BadEncoding)?;
    if !facts.usages.is_empty() && !facts.server_auth() && !facts.usages.iter().any(|u| u == "any")
    {
        return refused(CertificateError::InvalidPurpose);
    }
    verify_server_name(&ParsedCertificate::try_from(pin.der())?, server_name)?;
    Ok(ServerCertVerified::assertion())
}

#[cfg(test)]
mod tests;
