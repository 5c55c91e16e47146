//! The embedded authority: makes the root *SMS Issuing* once, and certificates for site systems
//! whenever they are due.
//!
//! Nothing is read or made before the first certificate is asked for, and every failure is told
//! anew at each asking: what is mended on disk mends the authority without a restart.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;

use crate::cert::issuer::{self, Algorithm, Pair, Scope, Signer};
use crate::cert::request::Request;
use crate::cert::{Anchors, Credential, Facts, Fault, Source, Verdicts};
use crate::clock::is_plausible;
use crate::unfit::Unfit;

use super::files::{Held, LOCK, Place, lock, make_private, trouble};

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
    /// The site's root.
    pub anchors: Arc<Anchors>,
    /// Why it has not been renewed though it is time.
    pub overdue: Option<Fault>,
}

/// What the authority has made so far.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The root.
    pub root: Facts,
    /// The role-signing authority below it.
    pub role: Facts,
    /// Certificates of site systems by name, in order of name.
    pub leaves: Vec<(String, Facts)>,
}

#[derive(Debug, Default)]
struct State {
    signers: Option<Arc<Signers>>,
    leaves: HashMap<String, Arc<Credential>>,
}

#[derive(Debug)]
struct Signers {
    root: Signer,
    role: Signer,
    anchors: Arc<Anchors>,
}

impl Authority {
    /// The authority of a state directory. Touches no file yet.
    pub fn new(state: &Path, params: AuthorityParams, provider: Arc<CryptoProvider>) -> Self {
        let dir = state.join("authority");
        Authority { dir, params, provider, state: Mutex::default(), verdicts: Verdicts::default() }
    }

    /// The certificate of a site system: the present one, or a new one if there is none, its hosts
    /// are others, it is unfit, or two thirds of its life have passed. Where a new one cannot be
    /// made, the present one goes on as long as it is fit.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] with what is in the way, or what makes the new certificate unfit: a host
    /// outside the root's scope is [`Unfit::Constrained`].
    pub fn ensure_leaf(
        &self,
        name: &str,
        hosts: &[ServerName<'static>],
        now: Timestamp,
    ) -> Result<Issued, Fault> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let signers = self.signers(state, now)?;
        let judge = |credential: &Arc<Credential>| {
            self.verdicts.faults(credential, &signers.anchors, hosts, &self.provider, now)
        };
        let whole = self.params.whole_chains.contains(name);
        let fit = |held: &Arc<Credential>| {
            let is_whole = held.chain().len() > 2;
            judge(held).is_empty() && exactly(held.facts(), hosts) && is_whole == whole
        };
        let held = state.leaves.get(name).cloned();
        let held = held.filter(fit).or_else(|| self.read_leaf(name).filter(fit));
        let (credential, overdue) = match held {
            Some(held) if !held.facts().renewal_due(now) => (held, None),
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

    /// The root's certificate as PEM, for clients to import. Makes nothing.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] where there is none yet or it cannot be read.
    pub fn root_pem(&self) -> Result<String, Fault> {
        Ok(self.load_root()?.certificate().to_owned())
    }

    /// The roots that clients shall trust, as PEM: the present one first. Makes nothing.
    ///
    /// # Errors
    /// As [`Authority::root_pem`].
    pub fn roots_pem(&self) -> Result<String, Fault> {
        self.root_pem()
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
        let twin = signers.role.leaf(name, hosts, Algorithm::P256, now)?;
        let twin = Arc::new(self.credential(&twin)?);
        let faults = self.verdicts.faults(&twin, &signers.anchors, hosts, &self.provider, now);
        match faults.into_iter().next() {
            Some(fault) => Err(fault),
            None => signers.role.leaf_of(request, name, hosts, now),
        }
    }

    /// What has been made so far. Makes nothing.
    ///
    /// # Errors
    /// As [`Authority::root_pem`].
    pub fn overview(&self) -> Result<Overview, Fault> {
        let signers = self.load()?;
        let dir = self.dir.join("leaf");
        let names: BTreeSet<String> = std::fs::read_dir(&dir)
            .map_err(|e| trouble(&dir, e))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| Some(file.strip_suffix(".crt")?.to_owned()))
            .collect();
        let leaf = |name: String| {
            let facts = self.read_leaf(&name)?.facts().clone();
            Some((name, facts))
        };
        Ok(Overview {
            root: signers.root.facts().clone(),
            role: signers.role.facts().clone(),
            leaves: names.into_iter().filter_map(leaf).collect(),
        })
    }

    /// Root and role authority: as remembered, else as on disk, else made.
    fn signers(&self, state: &mut State, now: Timestamp) -> Result<Arc<Signers>, Fault> {
        // What is issued by it would be expired as soon as it is set.
        if !is_plausible(now) {
            let told = format!("the clock says {now}; nothing is issued until it is set");
            return Err(Fault::new(Unfit::NotIssued, told));
        }
        let present = state.signers.clone().map_or_else(|| self.load().map(Arc::new), Ok);
        let signers = match present {
            Ok(signers) if !signers.role.facts().renewal_due(now) => signers,
            // A role authority that is due serves until it can be replaced.
            Ok(signers) => self.complete(now).map_or(signers, Arc::new),
            Err(_) => Arc::new(self.complete(now)?),
        };
        state.signers = Some(signers.clone());
        Ok(signers)
    }

    /// Root and role authority as they are on disk.
    fn load(&self) -> Result<Signers, Fault> {
        let root = self.load_root()?;
        let role = self.load_role(&root)?;
        Signers::new(root, role)
    }

    fn load_root(&self) -> Result<Signer, Fault> {
        let place = self.root_place();
        match place.read()? {
            Held::Both(pair) => Signer::load(&pair.certificate, &pair.key)
                .map_err(|fault| trouble(&place.certificate, fault)),
            Held::CertificateOnly => Err(trouble(
                &place.key,
                "the root's key is missing: restore it, or remove root.crt for a new root that \
                 clients have to import",
            )),
            Held::KeyOnly(_) | Held::Nothing => {
                Err(trouble(&place.certificate, "there is no root yet"))
            }
        }
    }

    fn load_role(&self, root: &Signer) -> Result<Signer, Fault> {
        let place = self.role_place();
        let Held::Both(pair) = place.read()? else {
            return Err(trouble(&place.certificate, "there is no role authority yet"));
        };
        let role = Signer::load(&pair.certificate, &pair.key)
            .map_err(|fault| trouble(&place.certificate, fault))?;
        match root.signed(&role) {
            true => Ok(role),
            false => Err(trouble(&place.certificate, "is of another root")),
        }
    }

    /// Make what is missing, one process at a time. A root that exists is taken as it is or not at
    /// all; only the certificate of a key that never got one is made up for. The role authority
    /// hangs from the root alone, so it may be made anew whenever there is anything wrong with it.
    fn complete(&self, now: Timestamp) -> Result<Signers, Fault> {
        make_private(&self.dir)?;
        make_private(&self.dir.join("leaf"))?;
        let _lock = lock(&self.dir).map_err(|e| trouble(&self.dir.join(LOCK), e))?;
        let AuthorityParams { site_code, scope, algorithm, .. } = &self.params;
        let place = self.root_place();
        match place.read()? {
            Held::Nothing => {
                let root = issuer::root(site_code, scope, *algorithm, now)?;
                place.write(&root)?;
                tracing::info!(target: "sitegate::certificate", path = %place.certificate.display(),
                    "made the site's root; clients have to import it");
            }
            Held::KeyOnly(key) => place.write(&issuer::root_of(&key, site_code, scope, now)?)?,
            Held::Both(_) | Held::CertificateOnly => {}
        }
        let root = self.load_root()?;
        let fresh = |role: &Signer| !role.facts().renewal_due(now);
        let role = match self.load_role(&root).ok().filter(fresh) {
            Some(role) => role,
            None => {
                let role = root.role(scope, *algorithm, now)?;
                self.keep(&self.role_place(), &role);
                Signer::load(&role.certificate, &role.key)?
            }
        };
        Signers::new(root, role)
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
            return Err(fault);
        }
        if let Some(place) = self.leaf_place(name) {
            self.keep(&place, &pair);
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

    fn root_place(&self) -> Place {
        Place::new(&self.dir, "root")
    }

    fn role_place(&self) -> Place {
        Place::new(&self.dir, "role")
    }

    /// Where a leaf is kept; nowhere if its name could lead out of the folder.
    fn leaf_place(&self, name: &str) -> Option<Place> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let safe = !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
        safe.then(|| Place::new(&self.dir.join("leaf"), name))
    }
}

impl Signers {
    fn new(root: Signer, role: Signer) -> Result<Self, Fault> {
        let anchors = Arc::new(Anchors::from_pem(root.certificate().as_bytes())?);
        Ok(Signers { root, role, anchors })
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
