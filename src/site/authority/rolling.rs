//! Rolling over root and role authority. What is new is written first; then one renaming of the
//! folder's file decides, and what nobody trusts any longer is removed.

use jiff::Timestamp;

use super::super::files::{Held, LOCK, lock, make_private, trouble};
use super::super::ring::{self, Journal, Ring, Thing};
use super::super::rollover::{Found, Refused, RolloverError, Step, Terms, refusals};
use super::{Authority, AuthorityParams};
use crate::cert::issuer::{self, Signer, is_signed_by};
use crate::cert::{Facts, Fault};

impl Authority {
    /// What stands in the way of a step for root or role authority, and how far it has come.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`](crate::unfit::Unfit::NotIssued) for what cannot be read.
    pub(in crate::site) fn refusals(
        &self,
        thing: Thing,
        step: Step,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<(Ring, Vec<Refused>), Fault> {
        let journal = self.journal()?;
        let ring = journal.ring(thing);
        let other = match thing {
            Thing::Intermediate => Thing::Root,
            _ => Thing::Intermediate,
        };
        let found = Found {
            exists: matches!(self.place(thing, ring.current).read()?, Held::Both(_)),
            other: Some((other, journal.ring(other).stage())),
            leaves: match (step, ring.old) {
                (Step::Retire, Some(old)) => self.hanging(thing, old, now)?,
                _ => Vec::new(),
            },
        };
        let refused = refusals((thing, &ring), step, terms, &found, now);
        Ok((ring, refused))
    }

    /// Take a step for root or role authority.
    ///
    /// # Errors
    /// A refusal, or what could not be made or written; all is as it was then.
    pub(in crate::site) fn step(
        &self,
        thing: Thing,
        step: Step,
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
            Step::Publish => self.publish(thing, journal.clone(), now)?,
            Step::Switch => self.switch(thing, journal.clone(), now)?,
            Step::Retire => self.retire(thing, journal.clone(), now)?,
        };
        stepped.write(&self.dir).map_err(|e| trouble(&ring::file(&self.dir), e))?;
        for thing in [Thing::Root, Thing::Intermediate] {
            if let (Some(old), None) = (journal.ring(thing).old, stepped.ring(thing).old) {
                ring::remove(&self.dir, thing, old);
            }
        }
        drop(locked);
        // The step is taken; lists that could not be written are written by whoever looks next.
        if let Err(fault) = self.write_lists(now) {
            tracing::warn!(target: "sitegate::certificate", %fault,
                "the lists of revoked certificates are not up to date");
        }
        Ok(stepped.ring(thing))
    }

    fn publish(&self, thing: Thing, journal: Journal, now: Timestamp) -> Result<Journal, Fault> {
        let AuthorityParams { site_code, scope, algorithm, .. } = &self.params;
        let ring = journal.ring(thing);
        let pair = match thing {
            Thing::Root => issuer::root((site_code, ring.coming()), scope, *algorithm, now)?,
            _ => self.root(&journal)?.role(scope, *algorithm, now)?,
        };
        self.place(thing, ring.coming()).write(&pair)?;
        Ok(journal.with(thing, ring.published(now)))
    }

    /// With a root comes a role authority of its own, and the one before goes with the root.
    fn switch(&self, thing: Thing, journal: Journal, now: Timestamp) -> Result<Journal, Fault> {
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

    fn retire(&self, thing: Thing, journal: Journal, now: Timestamp) -> Result<Journal, Fault> {
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

    fn root(&self, journal: &Journal) -> Result<Signer, Fault> {
        self.signer(Thing::Root, journal.ring(Thing::Root).current)
    }

    /// The files of leaves that are valid and hang from a root or role authority.
    fn hanging(&self, thing: Thing, generation: u32, now: Timestamp) -> Result<Vec<String>, Fault> {
        let authority = self.signer(thing, generation)?.certificate().to_owned();
        // The leaf is signed by the role authority, and that by the root.
        let place_in_chain = if thing == Thing::Root { 1 } else { 0 };
        let mut hanging = Vec::new();
        for name in self.leaf_names()? {
            let Some(place) = self.leaf_place(&name) else { continue };
            let Ok(Held::Both(pair)) = place.read() else { continue };
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
