//! The authorities that sign: read as the folder's file decides, and made where one is missing.
//!
//! A root that exists is taken as it is or not at all.

use std::sync::Arc;

use jiff::Timestamp;

use super::super::files::{Held, LOCK, Place, lock, make_private, trouble};
use super::super::ring::{self, Journal, Thing};
use super::blocked::{self, BlockedCertificate};
use super::{Authority, AuthorityParams, State};
use crate::cert::issuer::{self, Points, Signer};
use crate::cert::{Anchors, Facts, Fault};
use crate::clock::is_plausible;
use crate::unfit::Unfit;

/// Root and role authority in force, and whom clients trust.
#[derive(Debug)]
pub(super) struct Signers {
    pub root: Signer,
    pub role: Signer,
    pub anchors: Arc<Anchors>,
    decided: Decided,
}

/// What commands have decided about an authority.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    journal: Journal,
    blocked: Vec<BlockedCertificate>,
}

impl Authority {
    /// Root and role authority: as remembered, else as on disk, else made.
    pub(super) fn signers(&self, state: &mut State, now: Timestamp) -> Result<Arc<Signers>, Fault> {
        // What is issued by it would be expired as soon as it is set.
        if !is_plausible(now) {
            let told = format!("the clock says {now}; nothing is issued until it is set");
            return Err(Fault::new(Unfit::NotIssued, told));
        }
        let decided = self.decided();
        if let Ok(decided) = &decided {
            state.blocked = decided.blocked.iter().map(|b| b.sha256.clone()).collect();
        }
        // A file that cannot be read changes nothing.
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
            // A role authority that is due serves until it can be replaced.
            Ok(signers) => self.complete(now).map_or(signers, Arc::new),
            Err(fault) => match (self.complete(now), state.signers.clone()) {
                (Ok(signers), _) => Arc::new(signers),
                // What was in force is fitter than nothing.
                (Err(_), Some(known)) => {
                    tracing::warn!(target: "sitegate::certificate", %fault,
                        "the authority goes on as it was");
                    known
                }
                (Err(fault), None) => return Err(fault),
            },
        };
        state.signers = Some(signers.clone());
        Ok(signers)
    }

    /// Which generations there are.
    pub(super) fn journal(&self) -> Result<Journal, Fault> {
        Journal::read(&self.dir).map_err(|e| trouble(&ring::file(&self.dir), e))
    }

    /// Read what the journal names, and again where a step was taken meanwhile: it removes what the
    /// journal before it named.
    pub(in crate::site) fn by_the_journal<T>(
        &self,
        read: impl Fn(&Journal) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
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

    fn decided(&self) -> Result<Decided, Fault> {
        Ok(Decided { journal: self.journal()?, blocked: blocked::read(&self.dir)? })
    }

    /// Root and role authority as they are on disk.
    pub(super) fn load(&self) -> Result<Signers, Fault> {
        let decided = self.decided()?;
        let root = self.load_root(&decided.journal)?;
        let role = self.load_role(&root, &decided.journal)?;
        self.together(root, role, decided)
    }

    /// The same, where there is a root: without one, none. A role authority that is missing or of no use
    /// would be made anew, so one in memory stands for it.
    pub(super) fn load_or_try(&self, now: Timestamp) -> Result<Option<Signers>, Fault> {
        let decided = self.decided()?;
        let is_first = decided.journal.ring(Thing::Root).current == 1;
        if is_first && matches!(self.place(Thing::Root, 1).read()?, Held::Nothing) {
            return Ok(None);
        }
        let root = self.load_root(&decided.journal)?;
        let role = self.load_role(&root, &decided.journal).or_else(|_| {
            let role = root.role(&self.params.scope, self.params.algorithm, now)?;
            Signer::load(&role.certificate, &role.key)
        })?;
        self.together(root, role, decided).map(Some)
    }

    fn together(&self, root: Signer, role: Signer, decided: Decided) -> Result<Signers, Fault> {
        let roots = self.read_roots(&decided.journal)?.concat();
        let anchors = Arc::new(Anchors::from_pem(roots.as_bytes())?);
        Ok(Signers { root, role, anchors, decided })
    }

    /// The certificates of all roots that are to be trusted, the one in force first.
    pub(super) fn read_roots(&self, journal: &Journal) -> Result<Vec<String>, Fault> {
        let ring = journal.ring(Thing::Root);
        let mut roots = vec![self.load_root(journal)?.certificate().to_owned()];
        for generation in [ring.next, ring.old].into_iter().flatten() {
            roots.push(self.signer(Thing::Root, generation)?.certificate().to_owned());
        }
        Ok(roots)
    }

    fn load_root(&self, journal: &Journal) -> Result<Signer, Fault> {
        self.signer(Thing::Root, journal.ring(Thing::Root).current)
    }

    /// One authority of a generation.
    pub(in crate::site) fn signer(&self, thing: Thing, generation: u32) -> Result<Signer, Fault> {
        let place = self.place(thing, generation);
        match place.read()? {
            Held::Both(pair) => Signer::load(&pair.certificate, &pair.key)
                .map(|signer| signer.publishing(self.points(thing, generation)))
                .map_err(|fault| trouble(&place.certificate, fault)),
            Held::CertificateOnly => Err(trouble(
                &place.key,
                "the key is missing: restore it, or remove its certificate for a new root that \
                 clients have to import",
            )),
            Held::KeyOnly(_) | Held::Nothing => {
                Err(trouble(&place.certificate, "there is none yet"))
            }
        }
    }

    fn load_role(&self, root: &Signer, journal: &Journal) -> Result<Signer, Fault> {
        let generation = journal.ring(Thing::Intermediate).current;
        let role = self.signer(Thing::Intermediate, generation)?;
        match root.signed(&role) {
            true => Ok(role),
            false => {
                let place = self.place(Thing::Intermediate, generation);
                Err(trouble(&place.certificate, "is of another root"))
            }
        }
    }

    /// Make what is missing, one process at a time. A root that exists is taken as it is or not at
    /// all; only the certificate of a key that never got one is made up for. The role authority
    /// hangs from the root alone, so it may be made anew whenever there is anything wrong with it.
    fn complete(&self, now: Timestamp) -> Result<Signers, Fault> {
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

    fn complete_root(&self, now: Timestamp) -> Result<(), Fault> {
        let AuthorityParams { site_code, scope, algorithm, .. } = &self.params;
        let place = self.place(Thing::Root, 1);
        match place.read()? {
            Held::Nothing => {
                if let Some(stray) = ring::stray(&self.dir, Thing::Root) {
                    let told = format!("is missing, and there is {stray}: restore it");
                    return Err(trouble(&ring::file(&self.dir), told));
                }
                self.may_make_root()
                    .map_err(|error| Fault::new(Unfit::NotIssued, error.to_string()))?;
                let root = issuer::root((site_code, 1), scope, *algorithm, now)?;
                place.write(&root)?;
                let sha256 = Facts::of_pem(&root.certificate).map(|facts| facts.sha256)?;
                tracing::warn!(target: "sitegate::certificate", path = %place.certificate.display(),
                    sha256, hint = "write it into [site] roots, so that no other is made if the \
                    state directory should be missing",
                    "made the site's root; clients have to import it");
                Ok(())
            }
            Held::KeyOnly(key) => place.write(&issuer::root_of(&key, site_code, scope, now)?),
            Held::Both(_) | Held::CertificateOnly => Ok(()),
        }
    }

    pub(super) fn place(&self, thing: Thing, generation: u32) -> Place {
        Place::new(&self.dir, &thing.stem(generation))
    }

    fn points(&self, thing: Thing, generation: u32) -> Option<Points> {
        let url = self.params.crl_url.as_deref()?.trim_end_matches('/');
        let stem = thing.stem(generation);
        Some(Points { crl: format!("{url}/{stem}.crl"), certificate: format!("{url}/{stem}.cer") })
    }
}
