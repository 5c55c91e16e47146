//! Trust anchors: the roots that clients of a site system are assumed to trust.
//!
//! Holds public parts only. Callers provide them (from a ca.crt, the system, or the site).

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::anchor::{Anchor, ends_soon};
use crate::pem;
use crate::unfit::Unfit;

use super::{Credential, CredentialFault};

/// Roots with their validity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors {
    roots: Vec<Anchor>,
    process_more: bool,
}

impl Anchors {
    /// Takes the readable ones of a list of roots. System stores hold malformed certificates that
    /// no chain leads to; one of them must not cost the others.
    pub fn lenient<'a>(roots: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Self {
        Anchors::of(roots.into_iter().filter_map(|der| Anchor::new(der).ok()).collect())
    }

    /// The roots of a file: PEM, DER or PKCS#7. An empty file gives no anchors.
    ///
    /// # Errors
    /// [`Unfit::Incomplete`] for a truncated file, [`Unfit::Malformed`] if an entry is not a
    /// certificate.
    pub fn from_pem(file: &[u8]) -> Result<Self, CredentialFault> {
        let found =
            pem::certificates(file).map_err(|fault| super::credential::pem_fault("ca", fault))?;
        if found.is_empty() && !file.iter().all(u8::is_ascii_whitespace) {
            let why = "ca: no certificate in it, as PEM, DER or PKCS#7";
            return Err(CredentialFault::new(Unfit::Malformed, why));
        }
        let malformed = |error| CredentialFault::new(Unfit::Malformed, format!("ca: {error:?}"));
        found.iter().map(Anchor::new).collect::<Result<_, _>>().map(Anchors::of).map_err(malformed)
    }

    fn of(roots: Vec<Anchor>) -> Self {
        Anchors { roots, process_more: false }
    }

    /// The same roots, for clients that process more of a chain than webpki does.
    pub fn processing_more(self, process_more: bool) -> Self {
        Anchors { process_more, ..self }
    }

    /// Whether clients are assumed to process policies, directory name constraints and long chains.
    pub fn process_more(&self) -> bool {
        self.process_more
    }

    /// The anchors of the trial handshake: webpki cannot follow every chain that was found fit, and
    /// in that case trusts the leaf itself.
    pub fn for_trial(&self, credential: &Credential) -> Self {
        if self.process_more {
            Anchors::lenient(credential.chain().first()).processing_more(true)
        } else {
            self.clone()
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Iterates over the roots.
    pub fn iter(&self) -> impl Iterator<Item = &Anchor> {
        self.roots.iter()
    }

    /// All of them, as webpki trust anchors.
    pub(super) fn all(&self) -> Vec<TrustAnchor<'static>> {
        self.roots.iter().map(|anchor| anchor.trusted().clone()).collect()
    }

    /// The roots that a chain from this leaf may end at, at that time, as webpki trust anchors.
    pub fn trusted_for(&self, leaf: &[u8], now: Timestamp) -> Vec<TrustAnchor<'static>> {
        let fit = self.roots.iter().filter(|anchor| anchor.fit_for(leaf, now).is_ok());
        fit.map(|anchor| anchor.trusted().clone()).collect()
    }

    /// As a rustls root store.
    pub fn root_store(&self) -> RootCertStore {
        RootCertStore { roots: self.all() }
    }

    /// The times at which a root of this chain becomes valid or expires.
    pub fn moments(&self, credential: &Credential) -> impl Iterator<Item = Timestamp> {
        self.above(credential).flat_map(Anchor::moments)
    }

    /// The CA of a chain that expires first, if that is soon: an intermediate, or a root that is
    /// trusted now. Of several with the same name the last to expire counts, since any of them will
    /// do.
    pub fn ending(&self, credential: &Credential, now: Timestamp) -> Option<(String, Timestamp)> {
        let trusted = self.above(credential).filter(|anchor| anchor.fit_at(now).is_ok());
        let trusted = trusted.map(|anchor| (anchor.subject(), anchor.until()));
        let between = credential.issuers().iter().map(|f| (f.subject.as_str(), f.not_after));
        let mut last: Vec<(&str, Timestamp)> = Vec::new();
        for (name, until) in trusted.chain(between) {
            match last.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = until.max(*known),
                None => last.push((name, until)),
            }
        }
        let (name, until) = last.into_iter().min_by_key(|(_, until)| *until)?;
        ends_soon(until, now).then(|| (name.to_owned(), until))
    }

    /// The roots that may have issued the leaf or a CA of the chain, by name.
    fn above(&self, credential: &Credential) -> impl Iterator<Item = &Anchor> {
        let chain = std::iter::once(credential.facts()).chain(credential.issuers());
        let names: Vec<String> = chain.map(|facts| facts.issuer.clone()).collect();
        self.roots.iter().filter(move |anchor| names.iter().any(|name| name == anchor.subject()))
    }
}
