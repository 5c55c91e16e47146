//! What was found wrong with credentials, remembered for as long as time cannot change it.
//!
//! A folder is looked at with every event in it, and each look judges all that lies there; without
//! this, most of a swap would be spent on checking the same signatures again.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;

use super::{Anchors, Credential, Expectation, Fault, faults};

/// Verdicts on credentials that are still in use somewhere: it keeps nobody's key in memory.
#[derive(Debug, Default)]
pub struct Verdicts(Mutex<Vec<Verdict>>);

#[derive(Debug)]
struct Verdict {
    credential: Weak<Credential>,
    anchors: Weak<Anchors>,
    hosts: Vec<ServerName<'static>>,
    at: Timestamp,
    faults: Vec<Fault>,
}

impl Verdicts {
    /// The same as [`faults`], and cheaper the second time. One provider only: it is no part of
    /// what is remembered.
    pub fn faults(
        &self,
        credential: &Arc<Credential>,
        anchors: &Arc<Anchors>,
        hosts: &[ServerName<'static>],
        provider: &CryptoProvider,
        now: Timestamp,
    ) -> Vec<Fault> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|v| v.credential.strong_count() > 0 && v.anchors.strong_count() > 0);
        // The very same, not equals: of equal credentials one may lack its key.
        let same = |v: &Verdict| {
            v.credential.as_ptr() == Arc::as_ptr(credential)
                && v.anchors.as_ptr() == Arc::as_ptr(anchors)
                && v.hosts == hosts
        };
        let place = known.iter().position(same);
        let found =
            place.and_then(|at| known.get(at)).filter(|v| steady(credential, anchors, v.at, now));
        if let Some(verdict) = found {
            return verdict.faults.clone();
        }
        let found = faults(credential, &Expectation { hosts, anchors, provider }, now);
        let verdict = Verdict {
            credential: Arc::downgrade(credential),
            anchors: Arc::downgrade(anchors),
            hosts: hosts.to_vec(),
            at: now,
            faults: found.clone(),
        };
        match place.and_then(|at| known.get_mut(at)) {
            Some(outdated) => *outdated = verdict,
            None => known.push(verdict),
        }
        found
    }
}

/// Whether nothing of the chain or its roots began or ended between two moments. Validity is in whole seconds,
/// of which the last belongs to it: a second on either side is left for that.
fn steady(credential: &Credential, anchors: &Anchors, one: Timestamp, other: Timestamp) -> bool {
    let second = SignedDuration::from_secs(1);
    let (from, until) =
        (one.min(other).saturating_sub(second), one.max(other).saturating_add(second));
    let (Ok(from), Ok(until)) = (from, until) else { return false };
    let chain = std::iter::once(credential.facts()).chain(credential.issuers());
    let dates = chain.flat_map(|f| [f.not_before, f.not_after]).chain(anchors.moments(credential));
    !dates.into_iter().any(|m| from <= m && m <= until)
}

#[cfg(test)]
mod tests;
