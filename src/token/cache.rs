//! A cache of verified tokens, so that a token is not verified again on each request.
//!
//! Holds only verified tokens, never refusals: invalid tokens neither fill it nor evict entries. An
//! entry becomes invalid with its token, its issuer's key set or its issuer's policy.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest;
use jiff::Timestamp;
use quick_cache::sync::Cache;

use super::bearer::BearerToken;
use super::refusal::Refusal;
use super::verify::{Trusted, Verified, verify_among};
use crate::denial::Denial;

/// Verified tokens by the SHA-256 of their text.
pub struct TokenCache(Cache<[u8; 32], Arc<Verified>>);

/// A token that is accepted now.
#[derive(Clone, Debug)]
pub struct Identified {
    /// The verified claims.
    pub verified: Arc<Verified>,
    /// Whether it was a cache hit.
    pub hit: bool,
    /// The token's identifier in logs.
    pub fingerprint: Fingerprint,
}

/// The identifier of a token in logs: the first 8 hex digits of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// The fingerprint of a token's text, well-formed or not.
    pub fn of(token: &[u8]) -> Self {
        Fingerprint::of_hash(&hash(token))
    }

    fn of_hash(hash: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = *hash;
        Fingerprint(u32::from_be_bytes([a, b, c, d]))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl TokenCache {
    /// An empty cache of at most `capacity` tokens.
    pub fn new(capacity: usize) -> Self {
        TokenCache(Cache::new(capacity))
    }

    /// The number of cached tokens.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenCache({} tokens)", self.len())
    }
}

/// Identifies the owner of a token, if it is accepted now and from one of the `allowed` issuers (by
/// name). `trusted` is the same list for all callers of one cache.
///
/// Audience, times and the allowed issuers are checked on a hit, too.
///
/// # Errors
/// As [`super::verify`]; an issuer that is trusted but not allowed here is refused as unknown.
pub fn identify(
    cache: &TokenCache,
    token: &BearerToken<'_>,
    trusted: &[Trusted],
    allowed: &BTreeSet<Arc<str>>,
    now: Timestamp,
) -> Result<Identified, Refusal> {
    let key = hash(token.as_str().as_bytes());
    let fingerprint = Fingerprint::of_hash(&key);
    let found = |verified, hit| Identified { verified, hit, fingerprint };
    if let Some(verified) = cache.0.get(&key) {
        if verified.stands(trusted) {
            return recall(&verified, allowed, now)
                .map(|()| found(verified.clone(), true))
                .inspect_err(|refusal| {
                    if refusal.denial == Denial::TokenExpired {
                        cache.0.remove(&key);
                    }
                });
        }
        cache.0.remove(&key);
    }
    let candidates = trusted.iter().filter(|t| allowed.contains(&t.issuer.name));
    let verified = Arc::new(verify_among(token, candidates, now)?);
    cache.0.insert(key, verified.clone());
    Ok(found(verified, false))
}

fn recall(
    verified: &Verified,
    allowed: &BTreeSet<Arc<str>>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let refuse = |denial, detail| Err(Refusal::new(denial, detail).naming(verified.kid()));
    if !allowed.contains(&verified.issuer().name) {
        return refuse(Denial::TokenIssuer, "its issuer is not allowed on this site system");
    }
    match verified.admit(now) {
        Ok(_) => Ok(()),
        Err(denial) => Err(verified.refused(denial, now).naming(verified.kid())),
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = digest::digest(&digest::SHA256, bytes);
    // Invariant: SHA-256 has 32 bytes, so zip drops none.
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}
