//! The four things of a site that are rolled over, behind one door: how far each has come, and the
//! steps.
//!
//! Every step is taken under the lock of its folder, so of two at once one is refused.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::authority::Authority;
use super::key_ring::KeyRing;
use super::ring::{Ring, Thing};
use super::rollover::{Found, Refusal, Refused, RolloverError, Step, Terms};
use super::tokens::token_ring;
use crate::clock::second;
use crate::token::SignerKind;

/// What a site can roll over.
#[derive(Debug)]
pub struct Rollover {
    authority: Option<Arc<Authority>>,
    tokens: KeyRing,
    bundle: KeyRing,
}

/// How far a thing has come.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Which thing.
    pub thing: Thing,
    /// Its generations.
    pub ring: Ring,
    /// The step that comes next.
    pub step: Step,
    /// What that waits for; nothing if it can be taken.
    pub waits: Vec<Refused>,
}

impl Rollover {
    /// Of a state directory. The next token key will be of this kind; a site that issues no
    /// certificates has no authority.
    pub fn new(
        state: &Path,
        token_key: (&str, SignerKind),
        authority: Option<Arc<Authority>>,
    ) -> Self {
        let (tokens, bundle) = (token_ring(state, token_key), KeyRing::bundle(state));
        Rollover { authority, tokens, bundle }
    }

    /// How far a thing has come. Makes nothing.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn progress(
        &self,
        thing: Thing,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<Progress, RolloverError> {
        let look = |step| -> Result<(Ring, Vec<Refused>), RolloverError> {
            Ok(match (thing, &self.authority) {
                (Thing::TokenKey, _) => self.tokens.refusals(step, terms, now)?,
                (Thing::BundleKey, _) => self.bundle.refusals(step, terms, now)?,
                (_, Some(authority)) => authority.refusals(thing, step, terms, now)?,
                (_, None) => {
                    let (ring, found) = (Ring::default(), Found::default());
                    let waits = super::rollover::refusals((thing, &ring), step, terms, &found, now);
                    (ring, waits)
                }
            })
        };
        let step = Step::after(look(Step::Publish)?.0.stage());
        let (ring, waits) = look(step)?;
        Ok(Progress { thing, ring, step, waits })
    }

    /// Take a step.
    ///
    /// # Errors
    /// A refusal, or what cannot be read, made or written; all is as it was then.
    pub fn step(
        &self,
        thing: Thing,
        step: Step,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Result<Ring, RolloverError> {
        // Moments are shown to people and written into files.
        let now = second(now.as_second());
        match (thing, &self.authority) {
            (Thing::TokenKey, _) => self.tokens.step(step, terms, now),
            (Thing::BundleKey, _) => self.bundle.step(step, terms, now),
            (_, Some(authority)) => authority.step(thing, step, terms, now),
            (_, None) => Err(Refused::new(Refusal::Missing, "").into()),
        }
    }
}

#[cfg(test)]
mod tests;
