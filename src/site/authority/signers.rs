//! The signing authorities: loaded as the journal says, and created if missing.
//!
//! An existing root is used unchanged or not at all.

use std::sync::Arc;

use jiff::Timestamp;

use super::super::files::{KeyFiles, KeyPlace, LOCK, lock, make_private, trouble};
use super::super::ring::{self, Journal, Thing};
use super::blocked::{self, BlockedCertificate};
use super::{Authority, AuthorityParams, AuthorityState};
use crate::cert::issuer::{self, Points, Signer};
use crate::cert::{Anchors, CredentialFault, Facts};
use crate::clock::is_plausible;
use crate::unfit::Unfit;

/// Root and role authority in force, and the roots that clients trust.
#[derive(Debug)]
pub(super) struct Signers {
    pub root: Signer,
    pub role: Signer,
    pub anchors: Arc<Anchors>,
    decided: Decided,
}

/// The decisions that commands have written about an authority.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    journal: Journal,
    blocked: Vec<BlockedCertificate>,
}

impl Authority {
    /// Root and role authority: from memory, else from disk, else newly created.
    pub(super) fn signers(
        &self,
        state: &mut AuthorityState,
        now: Timestamp,
    ) -> Result<Arc<Signers>, CredentialFault> {
        // A certificate issued now would be expired as soon as the clock is set.
        if !is_plausible(now) {
            let told = format!("the clock says {now}; no certificate is issued until it is set");
            return Err(CredentialFault::new(Unfit::NotIssued, told));
        }
        let decided = self.decided();
        if let Ok(decided) = &decided {
            state.blocked = decided.blocked.iter().map(|b| b.sha256.clone()).collect();
        }
        // An unreadable file changes nothing.
        let same = |known: &Arc<Signers>| decided.as_ref().is_ok_and(|now| *now == known.decided);
        let known = state.signers.clone().filter(|known| decided.is_err() || same(known));
        if known.is_none() {
            state.lists_seen = None;
        }
        let present = known.map_or_else(|| self.load().map(Arc::new), Ok);
        let fresh = |signers: &Signers| {
            let role = signers.role.facts();
            !role.renewal_due(now) && !state.blocked.contains(&role.sha256)
        };
        let signers = match present {
            Ok(signers) if fresh(&signers) => signers,
            // A role authority that is due for renewal is used until it can be replaced.
            Ok(signers) => self.complete(now).map_or(signers, Arc::new),
            Err(fault) => match (self.complete(now), state.signers.clone()) {
                (Ok(signers), _) => Arc::new(signers),
                // The authority in memory is better than none.
                (Err(_), Some(known)) => {
                    tracing::warn!(target: "sitegate::certificate", %fault,
                        "the authority continues with its previous state");
                    known
                }
                (Err(fault), None) => return Err(fault),
            },
        };
        state.signers = Some(signers.clone());
        Ok(signers)
    }

    /// The journal: which generations exist.
    pub(super) fn journal(&self) -> Result<Journal, CredentialFault> {
        Journal::read(&self.dir).map_err(|e| trouble(&ring::file(&self.dir), e))
    }

    /// Reads files that the journal names, and retries if a rollover step changed the journal in
    /// between: the step removes files that the earlier journal named.
    pub(in crate::site) fn by_the_journal<T>(
        &self,
        read: impl Fn(&Journal) -> Result<T, CredentialFault>,
    ) -> Result<T, CredentialFault> {
        let mut journal = self.journal()?;
        loop {
            let fault = match read(&journal) {
                Ok(found) => return Ok(found),
                Err(fault) => fault,
            };
            let now = self.journal()?;
            if now == journal {
                return Err(fault);
            }
            journal = now;
        }
    }

    fn decided(&self) -> Result<Decided, CredentialFault> {
        Ok(Decided { journal: self.journal()?, blocked: blocked::read(&self.dir)? })
    }

    /// Root and role authority from disk.
    pub(super) fn load(&self) -> Result<Signers, CredentialFault> {
        let decided = self.decided()?;
        let root = self.load_root(&decided.journal)?;
        let role = self.load_role(&root, &decided.journal)?;
        self.together(root, role, decided)
    }

    /// Like [`Authority::load`], but `None` if there is no root yet. A missing or unusable role
    /// authority would be created again, so a temporary one in memory stands in for it.
    pub(super) fn load_or_try(&self, now: Timestamp) -> Result<Option<Signers>, CredentialFault> {
        let decided = self.decided()?;
        let is_first = decided.journal.ring(Thing::Root).current == 1;
        if is_first && matches!(self.place(Thing::Root, 1).read()?, KeyFiles::Nothing) {
            return Ok(None);
        }
        let root = self.load_root(&decided.journal)?;
        let role = self.load_role(&root, &decided.journal).or_else(|_| {
            let role = root.role(&self.params.scope, self.params.algorithm, now)?;
            Signer::load(&role.certificate, &role.key)
        })?;
        self.together(root, role, decided).map(Some)
    }

    fn together(
        &self,
        root: Signer,
        role: Signer,
        decided: Decided,
    ) -> Result<Signers, CredentialFault> {
        let roots = self.read_roots(&decided.journal)?.concat();
        let anchors = Arc::new(Anchors::from_pem(roots.as_bytes())?);
        Ok(Signers { root, role, anchors, decided })
    }

    /// The certificates of all trusted roots, the one in force first.
    pub(super) fn read_roots(&self, journal: &Journal) -> Result<Vec<String>, CredentialFault> {
        let ring = journal.ring(Thing::Root);
        let mut roots = vec![self.load_root(journal)?.certificate().to_owned()];
        for generation in [ring.next, ring.old].into_iter().flatten() {
            roots.push(self.signer(Thing::Root, generation)?.certificate().to_owned());
        }
        Ok(roots)
    }

    fn load_root(&self, journal: &Journal) -> Result<Signer, CredentialFault> {
        self.signer(Thing::Root, journal.ring(Thing::Root).current)
    }

    /// Loads the authority of one generation.
    pub(in crate::site) fn signer(
        &self,
        thing: Thing,
        generation: u32,
    ) -> Result<Signer, CredentialFault> {
        let place = self.place(thing, generation);
        match place.read()? {
            KeyFiles::Both(pair) => Signer::load(&pair.certificate, &pair.key)
                .map(|signer| signer.publishing(self.points(thing, generation)))
                .map_err(|fault| trouble(&place.certificate, fault)),
            KeyFiles::CertificateOnly => Err(trouble(
                &place.key,
                "the key is missing: restore it, or remove its certificate for a new root that \
                 clients have to import",
            )),
            KeyFiles::KeyOnly(_) | KeyFiles::Nothing => {
                Err(trouble(&place.certificate, "there is none yet"))
            }
        }
    }

    fn load_role(&self, root: &Signer, journal: &Journal) -> Result<Signer, CredentialFault> {
        let generation = journal.ring(Thing::Intermediate).current;
        let role = self.signer(Thing::Intermediate, generation)?;
        if root.signed(&role) {
            Ok(role)
        } else {
            let place = self.place(Thing::Intermediate, generation);
            Err(trouble(&place.certificate, "is of another root"))
        }
    }

    /// Creates missing authorities, under the folder's lock. An existing root is used unchanged or
    /// not at all; only a missing certificate for an existing root key is created. The role
    /// authority depends only on the root, so it may be recreated whenever it is unusable.
    fn complete(&self, now: Timestamp) -> Result<Signers, CredentialFault> {
        make_private(&self.dir)?;
        make_private(&self.dir.join("leaf"))?;
        let _lock = lock(&self.dir).map_err(|e| trouble(&self.dir.join(LOCK), e))?;
        let decided = self.decided()?;
        let AuthorityParams { scope, algorithm, .. } = &self.params;
        if decided.journal.ring(Thing::Root).current == 1 {
            self.complete_root(now)?;
        }
        let root = self.load_root(&decided.journal)?;
        let fresh = |role: &Signer| {
            let blocked = |b: &BlockedCertificate| b.sha256 == role.facts().sha256;
            !role.facts().renewal_due(now) && !decided.blocked.iter().any(blocked)
        };
        let role = match self.load_role(&root, &decided.journal).ok().filter(fresh) {
            Some(role) => role,
            None => {
                let generation = decided.journal.ring(Thing::Intermediate).current;
                let role = root.role(scope, *algorithm, now)?;
                self.keep(&self.place(Thing::Intermediate, generation), &role);
                Signer::load(&role.certificate, &role.key)?
                    .publishing(self.points(Thing::Intermediate, generation))
            }
        };
        self.together(root, role, decided)
    }

    fn complete_root(&self, now: Timestamp) -> Result<(), CredentialFault> {
        let AuthorityParams { site_code, scope, algorithm, .. } = &self.params;
        let place = self.place(Thing::Root, 1);
        match place.read()? {
            KeyFiles::Nothing => {
                if let Some(stray) = ring::stray(&self.dir, Thing::Root) {
                    let told = format!("is missing, and there is {stray}: restore it");
                    return Err(trouble(&ring::file(&self.dir), told));
                }
                self.may_make_root()
                    .map_err(|error| CredentialFault::new(Unfit::NotIssued, error.to_string()))?;
                let root = issuer::root(site_code, 1, scope, *algorithm, now)?;
                place.write(&root)?;
                let sha256 = Facts::of_pem(&root.certificate).map(|facts| facts.sha256)?;
                tracing::warn!(target: "sitegate::certificate", path = %place.certificate.display(),
                    sha256, hint = "write it into [site] roots, so that no other is made if the \
                    state directory should be missing",
                    "made the site's root; clients have to import it");
                Ok(())
            }
            KeyFiles::KeyOnly(key) => place.write(&issuer::root_of(&key, site_code, scope, now)?),
            KeyFiles::Both(_) | KeyFiles::CertificateOnly => Ok(()),
        }
    }

    pub(super) fn place(&self, thing: Thing, generation: u32) -> KeyPlace {
        KeyPlace::new(&self.dir, &thing.stem(generation))
    }

    fn points(&self, thing: Thing, generation: u32) -> Option<Points> {
        let url = self.params.crl_url.as_deref()?.trim_end_matches('/');
        let stem = thing.stem(generation);
        Some(Points { crl: format!("{url}/{stem}.crl"), certificate: format!("{url}/{stem}.cer") })
    }
}
