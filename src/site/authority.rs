//! The embedded CA: creates the root *SMS Issuing* once, rolls it over on command, and issues and
//! renews certificates for site systems.
//!
//! Reads and creates nothing before the first certificate is requested, and reports every failure
//! at each request: a repair on disk takes effect without a restart.

mod blocked;
mod expected;
mod issued;
mod overview;
mod rolling;
mod signers;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;

use crate::cert::issuer::{CertAlgorithm, Pair, Scope};
use crate::cert::request::SigningRequest;
use crate::cert::{Anchors, Credential, CredentialFault, Facts, Source, Verdicts};

use super::files::{KeyFiles, KeyPlace, make_private};
use super::ring::{self, Thing};
use crate::unfit::Unfit;

pub use blocked::{BlockError, BlockedCertificate};
pub use expected::RootsError;
pub use overview::{AuthorityFacts, ShownKind, ShownState};
use signers::Signers;

/// The parameters of an authority.
#[derive(Clone, Debug)]
pub struct AuthorityParams {
    /// The site's code, three characters; becomes part of the root's name.
    pub site_code: String,
    /// The name constraints of the site. Written into the root when it is created; a later change
    /// needs a new root.
    pub scope: Scope,
    /// The kind of key to issue with and for.
    pub algorithm: CertAlgorithm,
    /// The site systems that send the root, too: a joining gateway knows the site only by the
    /// root's key.
    pub whole_chains: BTreeSet<String>,
    /// The SHA-256 thumbprints of the expected roots, upper-case hexadecimal. If there are any, no
    /// first root is created.
    pub roots: Vec<String>,
    /// The base URL of the files in `authority/crl`; without one, certificates have no CRL and
    /// issuer URLs.
    pub crl_url: Option<String>,
}

/// The site's authority, in a state directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    params: AuthorityParams,
    provider: Arc<CryptoProvider>,
    state: Mutex<AuthorityState>,
    verdicts: Verdicts,
}

/// A certificate of the site, and its roots.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The chain and its key.
    pub credential: Arc<Credential>,
    /// The site's roots: the one in force, and the next or the former one.
    pub anchors: Arc<Anchors>,
    /// Why its due renewal failed.
    pub overdue: Option<CredentialFault>,
}

/// The result of a trial issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// A certificate would be fit.
    Fit,
    /// There is no root yet; the first start creates it.
    AtFirstStart,
}

#[derive(Debug, Default)]
struct AuthorityState {
    signers: Option<Arc<Signers>>,
    leaves: HashMap<String, Arc<Credential>>,
    /// The SHA-256 thumbprints of blocked certificates.
    blocked: BTreeSet<String>,
    /// The time of the last check of the CRLs.
    lists_seen: Option<Timestamp>,
}

impl Authority {
    /// The authority of a state directory. Touches no file yet.
    pub fn new(state: &Path, params: AuthorityParams, provider: Arc<CryptoProvider>) -> Self {
        let dir = state.join("authority");
        Authority { dir, params, provider, state: Mutex::default(), verdicts: Verdicts::default() }
    }

    /// The folder to watch: its files change when a rollover step is taken or a certificate is
    /// blocked.
    pub fn watched(&self) -> PathBuf {
        ring::watched(&self.dir)
    }

    /// The certificate of a site system. Issues a new one if there is none, its hosts have changed,
    /// it is unfit or blocked, two thirds of its lifetime have passed, or another role authority is
    /// in force. If that fails, the existing one is used as long as it is fit.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] with the obstacle, or the fault of the new certificate: a host outside
    /// the root's name constraints is [`Unfit::OutsideRoot`].
    pub fn ensure_leaf(
        &self,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<Issued, CredentialFault> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let signers = self.signers(state, now)?;
        self.keep_lists(state, &signers, now);
        let judge = |credential: &Arc<Credential>| {
            self.verdicts.faults(credential, &signers.anchors, hosts, &self.provider, now)
        };
        let whole = self.params.whole_chains.contains(name);
        let fit = |held: &Arc<Credential>| {
            judge(held).is_empty()
                && exactly(held.facts(), hosts)
                && !state.blocked.contains(&held.facts().sha256)
                && (held.chain().len() > 2) == whole
        };
        let due = |held: &Credential| {
            let of_another = |role: &Facts| role.sha256 != signers.role.facts().sha256;
            held.facts().renewal_due(now) || held.issuers().first().is_none_or(of_another)
        };
        let held = state.leaves.get(name).cloned();
        let held = held.filter(fit).or_else(|| self.read_leaf(name).filter(fit));
        let (credential, overdue) = match held {
            Some(held) if !due(&held) => (held, None),
            held => match (self.issue(&signers, name, hosts, &judge, now), held) {
                (Ok(issued), _) => (issued, None),
                (Err(fault), Some(held)) => (held, Some(fault)),
                (Err(fault), None) => return Err(fault),
            },
        };
        state.leaves.insert(name.to_owned(), credential.clone());
        Ok(Issued { credential, anchors: signers.anchors.clone(), overdue })
    }

    /// Loads root and role authority, or creates them.
    ///
    /// # Errors
    /// As [`Authority::ensure_leaf`].
    pub fn prepare(&self, now: Timestamp) -> Result<(), CredentialFault> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.signers(state, now).map(drop)
    }

    /// Checks that a certificate for these hosts would be fit. Creates nothing; without a root yet,
    /// the first one will be created for these hosts.
    ///
    /// # Errors
    /// [`Unfit::OutsideRoot`] if the root is for other names, or why the authority on disk is
    /// unusable.
    pub fn try_out(
        &self,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<Tried, CredentialFault> {
        match self.load_or_try(now)? {
            Some(signers) => self.twin(&signers, name, hosts, now).map(|()| Tried::Fit),
            None => Ok(Tried::AtFirstStart),
        }
    }

    /// Checks that existing root and role authorities are usable. Creates nothing.
    ///
    /// # Errors
    /// As [`Authority::try_out`].
    pub fn look(&self, now: Timestamp) -> Result<(), CredentialFault> {
        self.load_or_try(now).map(drop)
    }

    /// Issues and checks a certificate with a throw-away key.
    fn twin(
        &self,
        signers: &Signers,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<(), CredentialFault> {
        let twin = signers.role.leaf(name, hosts, CertAlgorithm::P256, now)?;
        let twin = Arc::new(self.credential(&twin)?);
        let faults = self.verdicts.faults(&twin, &signers.anchors, hosts, &self.provider, now);
        faults.into_iter().next().map(of_own_root).map_or(Ok(()), Err)
    }

    /// Whether a certificate was blocked at the last request for one.
    pub fn is_blocked(&self, facts: &Facts) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.blocked.contains(&facts.sha256)
    }

    /// The roots' certificates as PEM, for clients to import: the one in force, then the next or
    /// the former one, if there is one. Creates nothing.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] if there is no root yet or it cannot be read.
    pub fn root_pem(&self) -> Result<String, CredentialFault> {
        self.by_the_journal(|journal| self.read_roots(journal).map(|roots| roots.concat()))
    }

    /// The time of the last switch of the issuing authority, while the former one is still trusted.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn switched(&self) -> Result<Option<Timestamp>, CredentialFault> {
        let journal = self.journal()?;
        let rings = [Thing::Root, Thing::Intermediate].map(|thing| journal.ring(thing));
        let old = rings.into_iter().filter(|ring| ring.old.is_some());
        Ok(old.filter_map(|ring| ring.since).max())
    }

    /// Signs a certificate request for a site system on another host: returns the chain and the
    /// certificate's content. The private key stays there.
    ///
    /// # Errors
    /// As [`Authority::ensure_leaf`].
    pub fn certify(
        &self,
        request: &SigningRequest,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<(String, Facts), CredentialFault> {
        let signers = {
            let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.signers(state, now)?
        };
        // Checked with a throw-away key, because the private key is not here; clients check all
        // other properties in the same way.
        self.twin(&signers, name, hosts, now)?;
        signers.role.leaf_of(request, name, hosts, now)
    }

    fn issue(
        &self,
        signers: &Signers,
        name: &str,
        hosts: &[ServerName<'static>],
        judge: &dyn Fn(&Arc<Credential>) -> Vec<CredentialFault>,
        now: Timestamp,
    ) -> Result<Arc<Credential>, CredentialFault> {
        let mut pair = signers.role.leaf(name, hosts, self.params.algorithm, now)?;
        if self.params.whole_chains.contains(name) {
            pair.certificate.push_str(signers.root.certificate());
        }
        let credential = Arc::new(self.credential(&pair)?);
        if let Some(fault) = judge(&credential).into_iter().next() {
            return Err(of_own_root(fault));
        }
        if let Some(place) = self.leaf_place(name) {
            self.keep(&place, &pair);
            self.note_issued(name, &pair);
        }
        Ok(credential)
    }

    /// Writes a pair that can be issued again. Failures are only logged: a full disk must not stop
    /// a port from being served.
    fn keep(&self, place: &KeyPlace, pair: &Pair) {
        let written = make_private(&self.dir.join("leaf")).and_then(|()| place.write(pair));
        if let Err(fault) = written {
            tracing::warn!(target: "sitegate::certificate", code = fault.unfit.code(), %fault,
                "issued but not written; it will be issued again at the next start");
        }
    }

    fn read_leaf(&self, name: &str) -> Option<Arc<Credential>> {
        match self.leaf_place(name)?.read() {
            Ok(KeyFiles::Both(pair)) => self.credential(&pair).ok().map(Arc::new),
            _ => None,
        }
    }

    fn credential(&self, pair: &Pair) -> Result<Credential, CredentialFault> {
        let (certificate, key) = (pair.certificate.as_bytes(), Some(pair.key.as_bytes()));
        Credential::parse(certificate, key, Source::SiteIssued, &self.provider)
    }

    /// The path of a leaf; `None` if its name could lead out of the folder.
    fn leaf_place(&self, name: &str) -> Option<KeyPlace> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let safe = !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
        safe.then(|| KeyPlace::new(&self.dir.join("leaf"), name))
    }
}

/// The authority above is the site's own, so a name constraint fault is reported as such.
fn of_own_root(fault: CredentialFault) -> CredentialFault {
    match fault.unfit {
        Unfit::Constrained => CredentialFault { unfit: Unfit::OutsideRoot, ..fault },
        _ => fault,
    }
}

/// Whether a certificate is for exactly these hosts: a host that was removed from a site system
/// must not stay in its certificate.
fn exactly(facts: &Facts, hosts: &[ServerName<'static>]) -> bool {
    let dns = |host: &ServerName<'static>| match host {
        ServerName::DnsName(name) => Some(name.as_ref().to_ascii_lowercase()),
        _ => None,
    };
    let ip = |host: &ServerName<'static>| match host {
        ServerName::IpAddress(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    };
    let names: BTreeSet<_> = facts.dns.iter().map(|name| name.to_ascii_lowercase()).collect();
    let addresses: BTreeSet<_> = facts.ips.iter().copied().collect();
    names == hosts.iter().filter_map(dns).collect()
        && addresses == hosts.iter().filter_map(ip).collect()
}

#[cfg(test)]
mod tests;
