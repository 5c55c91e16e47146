//! The server certificate of a handshake, in an administrator's terms.
//!
//! For display and comparison: the handshake decides whether it is acceptable.

use aws_lc_rs::digest;
use rustls::{ClientConnection, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The certificate that a server presented, and the TLS version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedChain {
    /// The chain as it was sent, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// SHA-1 of the leaf, upper-case hexadecimal: the thumbprint as Windows shows it.
    pub thumbprint: String,
    /// The leaf's subject.
    pub subject: String,
    /// The leaf's issuer.
    pub issuer: String,
    /// The DNS names of the leaf.
    pub names: Vec<String>,
    /// The issuers along the chain, from the leaf up to the root, by their common names.
    pub path: Vec<String>,
    /// `TLS 1.3` or `TLS 1.2`.
    pub tls: &'static str,
}

impl ServedChain {
    pub(crate) fn of(session: &ClientConnection) -> Self {
        let chain: Vec<_> = session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|c| c.clone().into_owned())
            .collect();
        let tls = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "unknown",
        };
        let mut presented = ServedChain { tls, ..ServedChain::default() };
        for der in &chain {
            if let Ok((_, certificate)) = X509Certificate::from_der(der) {
                presented.path.push(issuer_name(&certificate));
            }
        }
        if let Some(leaf) = chain.first() {
            presented.thumbprint = thumbprint(leaf);
            presented.describe(leaf);
        }
        presented.chain = chain;
        presented
    }

    fn describe(&mut self, leaf: &CertificateDer<'_>) {
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return };
        self.subject = certificate.subject().to_string();
        self.issuer = certificate.issuer().to_string();
        let names = certificate.subject_alternative_name().ok().flatten();
        self.names = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
    }
}

/// SHA-1 of a certificate, upper-case hexadecimal.
pub fn thumbprint(der: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn issuer_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.issuer().iter_common_name().next().and_then(|cn| cn.as_str().ok());
    name.map_or_else(|| certificate.issuer().to_string(), str::to_owned)
}
