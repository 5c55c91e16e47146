//! The roots that clients of a site system are taken to trust.
//!
//! Holds public parts only. Where they come from (a ca.crt, the system, the site) is for callers.

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::anchor::{Anchor, ends_soon};
use crate::pem;
use crate::unfit::Unfit;

use super::{Credential, Fault};

/// Roots, with their dates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors {
    roots: Vec<Anchor>,
    process_more: bool,
}

impl Anchors {
    /// Take what can be read of a list of roots. System stores hold oddities that no chain leads
    /// to; one of them must not cost the others.
    pub fn lenient<'a>(roots: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Self {
        Anchors::of(roots.into_iter().filter_map(|der| Anchor::new(der).ok()).collect())
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
        let malformed = |error| Fault::new(Unfit::Malformed, format!("ca: {error:?}"));
        found.iter().map(Anchor::new).collect::<Result<_, _>>().map(Anchors::of).map_err(malformed)
    }

    fn of(roots: Vec<Anchor>) -> Self {
        Anchors { roots, process_more: false }
    }

    /// The same roots, trusted by clients that process more of a chain than the library does.
    pub fn processing_more(self, process_more: bool) -> Self {
        Anchors { process_more, ..self }
    }

    /// Whether clients are taken to process policies, name constraints of directories and long
    /// chains.
    pub fn process_more(&self) -> bool {
        self.process_more
    }

    /// Whom a client of this machine trusts that tries the credential: the library, which it goes by,
    /// cannot follow every chain that was found fit, and then trusts the leaf itself.
    pub fn for_trial(&self, credential: &Credential) -> Self {
        match self.process_more {
            true => Anchors::lenient(credential.chain().first()).processing_more(true),
            false => self.clone(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Anchor> {
        self.roots.iter()
    }

    /// All of them, as webpki takes them.
    pub(super) fn all(&self) -> Vec<TrustAnchor<'static>> {
        self.roots.iter().map(|anchor| anchor.trusted().clone()).collect()
    }

    /// Those that the way up from this leaf may end at, at that time, as webpki takes them.
    pub fn trusted_for(&self, leaf: &[u8], now: Timestamp) -> Vec<TrustAnchor<'static>> {
        let fit = self.roots.iter().filter(|anchor| anchor.fit_for(leaf, now).is_ok());
        fit.map(|anchor| anchor.trusted().clone()).collect()
    }

    /// As rustls takes them.
    pub fn root_store(&self) -> RootCertStore {
        RootCertStore { roots: self.all() }
    }

    /// The moments at which a root begins or ends that the chain may lead to.
    pub fn moments(&self, credential: &Credential) -> impl Iterator<Item = Timestamp> {
        self.above(credential).flat_map(Anchor::moments)
    }

    /// The authority of a chain that ends first, if that is soon: an intermediate, or a root that is
    /// trusted now. Of several of one name the last to end counts, since any of them will do.
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

    /// The roots of the names that stand above the leaf and above each authority of the chain.
    fn above(&self, credential: &Credential) -> impl Iterator<Item = &Anchor> {
        let chain = std::iter::once(credential.facts()).chain(credential.issuers());
        let names: Vec<String> = chain.map(|facts| facts.issuer.clone()).collect();
        self.roots.iter().filter(move |anchor| names.iter().any(|name| name == anchor.subject()))
    }
}
