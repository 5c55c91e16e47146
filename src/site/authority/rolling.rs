//! Rollover of root and role authority. New files are written first; then the rename of the journal
//! commits the step, and files that are no longer trusted are removed.

use jiff::Timestamp;

use super::super::files::{KeyFiles, LOCK, lock, make_private, trouble};
use super::super::ring::{self, Journal, Ring, Thing};
use super::super::rollover::{
    RolloverError, RolloverFacts, RolloverStep, StepRefused, Terms, refusals,
};
use super::{Authority, AuthorityParams};
use crate::cert::issuer::{self, Signer, is_signed_by};
use crate::cert::{CredentialFault, Facts};

impl Authority {
    /// Returns the objections to a rollover step for root or role authority, and the current ring.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`](crate::unfit::Unfit::NotIssued) if a file cannot be read.
    pub(in crate::site) fn refusals(
        &self,
        thing: Thing,
        step: RolloverStep,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<(Ring, Vec<StepRefused>), CredentialFault> {
        let journal = self.journal()?;
        let ring = journal.ring(thing);
        let other = match thing {
            Thing::Intermediate => Thing::Root,
            _ => Thing::Intermediate,
        };
        let found = RolloverFacts {
            exists: matches!(self.place(thing, ring.current).read()?, KeyFiles::Both(_)),
            other: Some((other, journal.ring(other).stage())),
            leaves: match (step, ring.old) {
                (RolloverStep::Retire, Some(old)) => self.hanging(thing, old, now)?,
                _ => Vec::new(),
            },
        };
        let refused = refusals(thing, &ring, step, terms, &found, now);
        Ok((ring, refused))
    }

    /// Takes a rollover step for root or role authority.
    ///
    /// # Errors
    /// A refusal, or a failure to create or write; the state is then unchanged.
    pub(in crate::site) fn step(
        &self,
        thing: Thing,
        step: RolloverStep,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<Ring, RolloverError> {
        make_private(&self.dir)?;
        let locked = lock(&self.dir).map_err(|e| trouble(&self.dir.join(LOCK), e))?;
        let (_, refused) = self.refusals(thing, step, terms, now)?;
        if let Some(refused) = refused.into_iter().next() {
            return Err(refused.into());
        }
        let journal = self.journal()?;
        for thing in [Thing::Root, Thing::Intermediate] {
            ring::sweep(&self.dir, thing, &journal.ring(thing));
        }
        let stepped = match step {
            RolloverStep::Publish => self.publish(thing, journal.clone(), now)?,
            RolloverStep::Switch => self.switch(thing, journal.clone(), now)?,
            RolloverStep::Retire => self.retire(thing, journal.clone(), now)?,
        };
        stepped.write(&self.dir).map_err(|e| trouble(&ring::file(&self.dir), e))?;
        for thing in [Thing::Root, Thing::Intermediate] {
            if let (Some(old), None) = (journal.ring(thing).old, stepped.ring(thing).old) {
                ring::remove(&self.dir, thing, old);
            }
        }
        drop(locked);
        // The step is committed; CRLs that could not be written are retried at the next check.
        if let Err(fault) = self.write_lists(now) {
            tracing::warn!(target: "sitegate::certificate", %fault,
                "the CRLs are not up to date");
        }
        Ok(stepped.ring(thing))
    }

    fn publish(
        &self,
        thing: Thing,
        journal: Journal,
        now: Timestamp,
    ) -> Result<Journal, CredentialFault> {
        let AuthorityParams { site_code, scope, algorithm, .. } = &self.params;
        let ring = journal.ring(thing);
        let pair = match thing {
            Thing::Root => issuer::root(site_code, ring.coming(), scope, *algorithm, now)?,
            _ => self.root(&journal)?.role(scope, *algorithm, now)?,
        };
        self.place(thing, ring.coming()).write(&pair)?;
        Ok(journal.with(thing, ring.published(now)))
    }

    /// A new root gets its own new role authority, and the former role authority retires with the
    /// former root.
    fn switch(
        &self,
        thing: Thing,
        journal: Journal,
        now: Timestamp,
    ) -> Result<Journal, CredentialFault> {
        let AuthorityParams { scope, algorithm, .. } = &self.params;
        let switched = journal.clone().with(thing, journal.ring(thing).switched(now));
        if thing != Thing::Root {
            return Ok(switched);
        }
        let role = journal.ring(Thing::Intermediate);
        let pair = self.root(&switched)?.role(scope, *algorithm, now)?;
        self.place(Thing::Intermediate, role.coming()).write(&pair)?;
        Ok(switched.with(Thing::Intermediate, role.published(now).switched(now)))
    }

    fn retire(
        &self,
        thing: Thing,
        journal: Journal,
        now: Timestamp,
    ) -> Result<Journal, CredentialFault> {
        let ring = journal.ring(thing);
        if let (Thing::Intermediate, Some(old)) = (thing, ring.old) {
            self.block_role(old, now)?;
        }
        let retired = journal.with(thing, ring.retired(now));
        let role = retired.ring(Thing::Intermediate);
        Ok(match thing {
            Thing::Root => retired.with(Thing::Intermediate, role.retired(now)),
            _ => retired,
        })
    }

    fn root(&self, journal: &Journal) -> Result<Signer, CredentialFault> {
        self.signer(Thing::Root, journal.ring(Thing::Root).current)
    }

    /// The files of valid leaves that are signed, directly or not, by this root or role authority.
    fn hanging(
        &self,
        thing: Thing,
        generation: u32,
        now: Timestamp,
    ) -> Result<Vec<String>, CredentialFault> {
        let authority = self.signer(thing, generation)?.certificate().to_owned();
        // The role authority signs the leaf, and the root signs the role authority.
        let place_in_chain = if thing == Thing::Root { 1 } else { 0 };
        let mut hanging = Vec::new();
        for name in self.leaf_names()? {
            let Some(place) = self.leaf_place(&name) else { continue };
            let Ok(KeyFiles::Both(pair)) = place.read() else { continue };
            let chain = crate::pem::certificates(pair.certificate.as_bytes()).unwrap_or_default();
            let signed = chain.into_iter().nth(place_in_chain);
            let valid = Facts::of_pem(&pair.certificate).is_ok_and(|facts| facts.valid_at(now));
            if valid && signed.is_some_and(|der| is_signed_by(&authority, &der)) {
                hanging.push(format!("leaf/{name}.crt"));
            }
        }
        Ok(hanging)
    }
}
