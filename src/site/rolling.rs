//! The rollover of the site's root, role authority and keys, behind one interface: progress and
//! steps.
//!
//! Every step is taken under the lock of its folder, so of two concurrent steps one is refused.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::authority::Authority;
use super::key_ring::KeyRing;
use super::ring::{Ring, Thing};
use super::rollover::{
    RolloverError, RolloverFacts, RolloverStep, StepRefusal, StepRefused, Terms,
};
use super::tokens::token_ring;
use crate::clock::second;
use crate::token::SignerKind;

/// The four things that a site can roll over.
#[derive(Debug)]
pub struct Rollover {
    authority: Option<Arc<Authority>>,
    tokens: KeyRing,
    bundle: KeyRing,
}

/// The progress of a rollover.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The thing that is rolled over.
    pub thing: Thing,
    /// Its generations.
    pub ring: Ring,
    /// The next step.
    pub step: RolloverStep,
    /// The objections to the next step; empty if it can be taken.
    pub waits: Vec<StepRefused>,
}

impl Rollover {
    /// For a state directory. The next token key will be of this kind; a site that issues no
    /// certificates has no authority.
    pub fn new(
        state: &Path,
        site_code: &str,
        kind: SignerKind,
        authority: Option<Arc<Authority>>,
    ) -> Self {
        let (tokens, bundle) = (token_ring(state, site_code, kind), KeyRing::bundle(state));
        Rollover { authority, tokens, bundle }
    }

    /// The progress of a rollover. Creates nothing.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn progress(
        &self,
        thing: Thing,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<Progress, RolloverError> {
        let look = |step| -> Result<(Ring, Vec<StepRefused>), RolloverError> {
            Ok(match (thing, &self.authority) {
                (Thing::TokenKey, _) => self.tokens.refusals(step, terms, now)?,
                (Thing::BundleKey, _) => self.bundle.refusals(step, terms, now)?,
                (_, Some(authority)) => authority.refusals(thing, step, terms, now)?,
                (_, None) => {
                    let (ring, found) = (Ring::default(), RolloverFacts::default());
                    let waits = super::rollover::refusals(thing, &ring, step, terms, &found, now);
                    (ring, waits)
                }
            })
        };
        let step = RolloverStep::after(look(RolloverStep::Publish)?.0.stage());
        let (ring, waits) = look(step)?;
        Ok(Progress { thing, ring, step, waits })
    }

    /// Takes a step.
    ///
    /// # Errors
    /// A refusal, or a failure to read, create or write; the state is then unchanged.
    pub fn step(
        &self,
        thing: Thing,
        step: RolloverStep,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<Ring, RolloverError> {
        // Whole seconds: the time is shown to operators and written into files.
        let now = second(now.as_second());
        match (thing, &self.authority) {
            (Thing::TokenKey, _) => self.tokens.step(step, terms, now),
            (Thing::BundleKey, _) => self.bundle.step(step, terms, now),
            (_, Some(authority)) => authority.step(thing, step, terms, now),
            (_, None) => Err(StepRefused::new(StepRefusal::Missing, "").into()),
        }
    }
}

#[cfg(test)]
mod tests;
