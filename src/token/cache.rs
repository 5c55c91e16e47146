//! Verified tokens, so that the same token is not verified on each request.
//!
//! Holds verified facts alone, never refusals: whoever sends rubbish neither fills nor empties it.
//! An entry ends with its token, its issuer's key set and its issuer's policy.

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
    /// The facts.
    pub verified: Arc<Verified>,
    /// Whether they were known already.
    pub hit: bool,
    /// What stands for the token in logs.
    pub fingerprint: Fingerprint,
}

/// What stands for a token in logs: the first 8 hex digits of its SHA-256.
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
    /// An empty cache of at most so many tokens.
    pub fn new(capacity: usize) -> Self {
        TokenCache(Cache::new(capacity))
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenCache({} tokens)", self.len())
    }
}

/// Whose token it is, if it is accepted at this moment from one of the `allowed` issuers (by
/// name). `trusted` is the same list for all callers of one cache.
///
/// Audience, times and the allowed issuers are judged on a hit as on a miss.
///
/// # Errors
/// As [`super::verify`]; an issuer that is trusted but not allowed here is refused as unknown.
pub fn identify(
    cache: &TokenCache,
    token: &BearerToken<'_>,
    trusted: &[Trusted],
    allowed: &[Arc<str>],
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

fn recall(verified: &Verified, allowed: &[Arc<str>], now: Timestamp) -> Result<(), Refusal> {
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
    // Invariant: SHA-256 is 32 bytes, so zip leaves none out.
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}
