//! Cache of certificate checks, valid as long as time cannot change the result.
//!
//! A folder is checked at every event in it, and each check covers all its credentials; without the
//! cache, most of the time of a swap would go to verifying the same signatures again.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;

use super::{Anchors, Credential, CredentialFault, Expectation, faults};

/// Check results for credentials that are still in use: weak references keep no key in memory.
#[derive(Debug, Default)]
pub struct Verdicts(Mutex<Vec<CachedVerdict>>);

#[derive(Debug)]
struct CachedVerdict {
    credential: Weak<Credential>,
    anchors: Weak<Anchors>,
    hosts: Vec<ServerName<'static>>,
    at: Timestamp,
    faults: Vec<CredentialFault>,
}

impl Verdicts {
    /// The same as [`faults`], and cheaper the second time. For one provider only: it is not part
    /// of the cache key.
    pub fn faults(
        &self,
        credential: &Arc<Credential>,
        anchors: &Arc<Anchors>,
        hosts: &[ServerName<'static>],
        provider: &CryptoProvider,
        now: Timestamp,
    ) -> Vec<CredentialFault> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|v| v.credential.strong_count() > 0 && v.anchors.strong_count() > 0);
        // The same allocation, not an equal value: of equal credentials one may lack its key.
        let same = |v: &CachedVerdict| {
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
        let verdict = CachedVerdict {
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

/// Whether no certificate of the chain or its roots became valid or expired between two moments.
/// Validity is in whole seconds, including the last one: a second on either side allows for that.
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
