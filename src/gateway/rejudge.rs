//! Whether a request that was refused for an unknown key is worth a second look: its issuer may have
//! a new key since.
//!
//! Knows no pingora type. Waits a bounded time, and only for issuers whose keys are fetched.

use super::ctx::RequestCtx;
use super::decide::Refused;
use super::policy::Policy;

/// Whether to judge a refused request once more: because there are newer keys, or because the last
/// look is the one after which it goes on all the same.
pub async fn is_worth_it(policy: &Policy, refused: &Refused, ctx: &mut RequestCtx) -> bool {
    if refused.missed.is_none() {
        return false;
    }
    ctx.last_look = true;
    let newer = newer_keys(policy, refused).await;
    newer || ctx.site.as_ref().is_some_and(|site| site.observing.is_some())
}

/// Ask for newer keys of the issuer whose key was missed. Returns whether they are others than those
/// that the request was judged by, so that judging it once more may end otherwise.
///
/// The token is not verified, so anyone can ask: [`crate::refetch::Refetch::ask`] bounds how often
/// there is a fetch, how many wait for it, and for how long.
async fn newer_keys(policy: &Policy, refused: &Refused) -> bool {
    let Some(missed) = &refused.missed else { return false };
    let issuer = policy.trusted.iter().find(|t| t.issuer.name == missed.issuer);
    let Some(issuer) = issuer else { return false };
    // They may have come between the judgement and now.
    let newer = || issuer.keys.generation() != missed.generation;
    let Some(refetch) = policy.refetch.get(&missed.issuer) else { return newer() };
    // A fetch that was under way may have begun before the key was there: one more may be asked for.
    for _ in 0..2 {
        if newer() {
            break;
        }
        refetch.ask().await;
    }
    newer()
}
