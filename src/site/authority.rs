//! The embedded authority: makes the root *SMS Issuing* once, rolls it over when told to, and makes
//! certificates for site systems whenever they are due.
//!
//! Nothing is read or made before the first certificate is asked for, and every failure is told
//! anew at each asking: what is mended on disk mends the authority without a restart.

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

use crate::cert::issuer::{Algorithm, Pair, Scope};
use crate::cert::request::Request;
use crate::cert::{Anchors, Credential, Facts, Fault, Source, Verdicts};

use super::files::{Held, Place, make_private};
use super::ring::{self, Thing};
use crate::unfit::Unfit;

pub use blocked::{BlockError, BlockedCertificate};
pub use expected::RootsError;
pub use overview::{Shown, ShownKind, ShownState};
use signers::Signers;

/// What an authority is made with.
#[derive(Clone, Debug)]
pub struct AuthorityParams {
    /// The site's code, three characters; becomes part of the root's name.
    pub site_code: String,
    /// What the site may issue for. Written into the root when it is made; later changes ask for a
    /// new root.
    pub scope: Scope,
    /// The kind of key to issue with and for.
    pub algorithm: Algorithm,
    /// The site systems that send the root as well: whoever joins the site knows it by its key alone.
    pub whole_chains: BTreeSet<String>,
    /// The SHA-256 thumbprints of the roots that are expected here, upper-case hexadecimal. If there
    /// are any, no first root is made.
    pub roots: Vec<String>,
    /// Below which URL the files of `authority/crl` are found; certificates say nothing of it
    /// without one.
    pub crl_url: Option<String>,
}

/// The site's authority in a state directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    params: AuthorityParams,
    provider: Arc<CryptoProvider>,
    state: Mutex<State>,
    verdicts: Verdicts,
}

/// A certificate of the site, and the root that vouches for it.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The chain and its key.
    pub credential: Arc<Credential>,
    /// The site's roots: the one in force, and the next or the one before.
    pub anchors: Arc<Anchors>,
    /// Why it has not been renewed though it is time.
    pub overdue: Option<Fault>,
}

/// What a trial has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// A certificate would be fit.
    Fit,
    /// There is no root yet; it is made at the first start.
    AtFirstStart,
}

#[derive(Debug, Default)]
struct State {
    signers: Option<Arc<Signers>>,
    leaves: HashMap<String, Arc<Credential>>,
    /// The SHA-256 thumbprints of what is blocked.
    blocked: BTreeSet<String>,
    /// When the lists of revoked certificates were looked at last.
    lists_seen: Option<Timestamp>,
}

impl Authority {
    /// The authority of a state directory. Touches no file yet.
    pub fn new(state: &Path, params: AuthorityParams, provider: Arc<CryptoProvider>) -> Self {
        let dir = state.join("authority");
        Authority { dir, params, provider, state: Mutex::default(), verdicts: Verdicts::default() }
    }

    /// The folder to watch: something changes there when a rollover goes a step on, or a
    /// certificate is blocked.
    pub fn watched(&self) -> PathBuf {
        ring::watched(&self.dir)
    }

    /// The certificate of a site system: the present one, or a new one if there is none, its hosts
    /// are others, it is unfit or blocked, two thirds of its life have passed, or it is not of the
    /// role authority in force. Where a new one cannot be made, the present one goes on as long as
    /// it is fit.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] with what is in the way, or what makes the new certificate unfit: a host
    /// outside the root's scope is [`Unfit::OutsideRoot`].
    pub fn ensure_leaf(
        &self,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<Issued, Fault> {
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

    /// Have a root and a role authority, made if need be.
    ///
    /// # Errors
    /// As [`Authority::ensure_leaf`].
    pub fn prepare(&self, now: Timestamp) -> Result<(), Fault> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.signers(state, now).map(drop)
    }

    /// Whether a certificate for these hosts would be fit. Makes nothing; where there is no root yet,
    /// the first one will be made for them.
    ///
    /// # Errors
    /// [`Unfit::OutsideRoot`] where the root was made for others, or why the authority on disk is of no
    /// use.
    pub fn try_out(
        &self,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<Tried, Fault> {
        match self.load_or_try(now)? {
            Some(signers) => self.twin(&signers, name, hosts, now).map(|()| Tried::Fit),
            None => Ok(Tried::AtFirstStart),
        }
    }

    /// Whether root and role authority, where there are any, can be used. Makes nothing.
    ///
    /// # Errors
    /// As [`Authority::try_out`].
    pub fn look(&self, now: Timestamp) -> Result<(), Fault> {
        self.load_or_try(now).map(drop)
    }

    /// Judge a certificate with a key that is thrown away.
    fn twin(
        &self,
        signers: &Signers,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<(), Fault> {
        let twin = signers.role.leaf(name, hosts, Algorithm::P256, now)?;
        let twin = Arc::new(self.credential(&twin)?);
        let faults = self.verdicts.faults(&twin, &signers.anchors, hosts, &self.provider, now);
        faults.into_iter().next().map(of_own_root).map_or(Ok(()), Err)
    }

    /// Whether a certificate was blocked, as far as that was known at the last asking for one.
    pub fn is_blocked(&self, facts: &Facts) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.blocked.contains(&facts.sha256)
    }

    /// The roots' certificates as PEM, for clients to import: the one in force, then the next one
    /// or the one before, if there is one. Makes nothing.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] where there is none yet or it cannot be read.
    pub fn root_pem(&self) -> Result<String, Fault> {
        self.by_the_journal(|journal| self.read_roots(journal).map(|roots| roots.concat()))
    }

    /// When the authority that issues was last replaced, while the one before is still trusted.
    ///
    /// # Errors
    /// If nobody can say.
    pub fn switched(&self) -> Result<Option<Timestamp>, Fault> {
        let journal = self.journal()?;
        let rings = [Thing::Root, Thing::Intermediate].map(|thing| journal.ring(thing));
        let old = rings.into_iter().filter(|ring| ring.old.is_some());
        Ok(old.filter_map(|ring| ring.since).max())
    }

    /// Certify somebody else's key for a site system elsewhere: the chain, and what the certificate
    /// says. The key stays where it is.
    ///
    /// # Errors
    /// As [`Authority::ensure_leaf`].
    pub fn certify(
        &self,
        request: &Request,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<(String, Facts), Fault> {
        let signers = {
            let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
            self.signers(state, now)?
        };
        // Judged by a twin with a key of our own: clients look at the rest in the same way.
        self.twin(&signers, name, hosts, now)?;
        signers.role.leaf_of(request, name, hosts, now)
    }

    fn issue(
        &self,
        signers: &Signers,
        name: &str,
        hosts: &[ServerName<'static>],
        judge: &dyn Fn(&Arc<Credential>) -> Vec<Fault>,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Fault> {
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

    /// Write what can be made again. A full disk must not stop a port that could be served.
    fn keep(&self, place: &Place, pair: &Pair) {
        let written = make_private(&self.dir.join("leaf")).and_then(|()| place.write(pair));
        if let Err(fault) = written {
            tracing::warn!(target: "sitegate::certificate", code = fault.unfit.code(), %fault,
                "issued but not written; it will be issued again at the next start");
        }
    }

    fn read_leaf(&self, name: &str) -> Option<Arc<Credential>> {
        match self.leaf_place(name)?.read() {
            Ok(Held::Both(pair)) => self.credential(&pair).ok().map(Arc::new),
            _ => None,
        }
    }

    fn credential(&self, pair: &Pair) -> Result<Credential, Fault> {
        let (certificate, key) = (pair.certificate.as_bytes(), Some(pair.key.as_bytes()));
        Credential::parse(certificate, key, Source::SiteIssued, &self.provider)
    }

    /// Where a leaf is kept; nowhere if its name could lead out of the folder.
    fn leaf_place(&self, name: &str) -> Option<Place> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let safe = !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
        safe.then(|| Place::new(&self.dir.join("leaf"), name))
    }
}

/// What stands above a certificate of the site's is the site's: say so.
fn of_own_root(fault: Fault) -> Fault {
    match fault.unfit {
        Unfit::Constrained => Fault { unfit: Unfit::OutsideRoot, ..fault },
        _ => fault,
    }
}

/// Whether a certificate is for these hosts and no others: one that was taken away from a site
/// system must not stay in its certificate.
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
