//! Decides whether to judge a request again that was refused for an unknown key: its issuer may
//! have published a new key.
//!
//! Waits a bounded time, and only for issuers whose keys are fetched.

use crate::gateway::judge::policy::Policy;
use crate::gateway::judge::verdict::Refused;
use crate::gateway::record::ctx::RequestCtx;

/// Returns whether to judge a refused request again: newer keys arrived, or the site system
/// observes, and relaxes the refusal only on the last look.
pub async fn is_worth_it(policy: &Policy, refused: &Refused, ctx: &mut RequestCtx) -> bool {
    if refused.missed.is_none() {
        return false;
    }
    ctx.refusal.is_final = true;
    let newer = newer_keys(policy, refused).await;
    newer || ctx.site.as_ref().is_some_and(|site| site.observing.is_some())
}

/// Fetches newer keys of the issuer whose key was missed. Returns whether they differ from those
/// that the request was judged by, so that the verdict may differ.
///
/// The token is not verified, so any client can trigger this: [`crate::refetch::Refetch::ask`]
/// limits the rate of fetches, the number of waiting requests, and their wait.
async fn newer_keys(policy: &Policy, refused: &Refused) -> bool {
    let Some(missed) = &refused.missed else { return false };
    let issuer = policy.trusted.iter().find(|t| t.issuer.name == missed.issuer);
    let Some(issuer) = issuer else { return false };
    // They may have arrived since the verdict.
    let newer = || issuer.keys.generation() != missed.generation;
    let Some(refetch) = policy.refetch.get(&missed.issuer) else { return newer() };
    // A fetch in flight may have begun before the key was published: ask once more.
    for _ in 0..2 {
        if newer() {
            break;
        }
        refetch.ask().await;
    }
    newer()
}
