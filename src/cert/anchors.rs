//! The roots that clients of a site system are taken to trust.
//!
//! Holds public parts only. Where they come from (a ca.crt, the system, the site) is for callers.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::pem;
use crate::unfit::Unfit;

use super::Fault;

/// Trust anchors (RFC 5280 §6.1.1 d): names, keys and name constraints of roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors(Vec<TrustAnchor<'static>>);

impl Anchors {
    /// Take what can be read of a list of roots. System stores hold oddities that no chain leads
    /// to; one of them must not cost the others.
    pub fn lenient<'a>(roots: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Self {
        Anchors(roots.into_iter().filter_map(|der| anchor(der).ok()).collect())
    }

    /// The roots of a file: PEM, DER or PKCS#7. An empty one gives no anchors.
    ///
    /// # Errors
    /// [`Unfit::Incomplete`] for a file cut short, [`Unfit::Malformed`] for what is no certificate.
    pub fn from_pem(file: &[u8]) -> Result<Self, Fault> {
        let found =
            pem::certificates(file).map_err(|fault| super::credential::pem_fault("ca", fault))?;
        if found.is_empty() && !file.iter().all(u8::is_ascii_whitespace) {
            let why = "ca: no certificate in it, as PEM, DER or PKCS#7";
            return Err(Fault::new(Unfit::Malformed, why));
        }
        found.iter().map(anchor).collect::<Result<_, _>>().map(Anchors)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As webpki takes them.
    pub(super) fn as_slice(&self) -> &[TrustAnchor<'static>] {
        &self.0
    }

    /// As rustls takes them.
    pub fn root_store(&self) -> RootCertStore {
        RootCertStore { roots: self.0.clone() }
    }
}

fn anchor(der: &CertificateDer<'_>) -> Result<TrustAnchor<'static>, Fault> {
    webpki::anchor_from_trusted_cert(der)
        .map(|anchor| anchor.to_owned())
        .map_err(|e| Fault::new(Unfit::Malformed, format!("ca: {e:?}")))
}
