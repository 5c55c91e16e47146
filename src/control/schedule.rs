//! When keys are fetched again: ahead of their age, and after a failure ever later.
//!
//! Pure: chance comes in as a number from 0 up to 1, so that many gateways do not ask at one moment.

use std::time::Duration;

/// The bounds of what an issuer may say about the age of its keys.
const AGE_MIN: Duration = Duration::from_secs(5 * 60);
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Where it says nothing.
const AGE: Duration = Duration::from_secs(3600);

const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);

/// How old fetched keys may become before they are fetched again: what is configured, else what
/// the issuer says, within bounds.
pub(super) fn age(configured: Option<Duration>, max_age: Option<Duration>) -> Duration {
    configured.unwrap_or_else(|| max_age.unwrap_or(AGE).clamp(AGE_MIN, AGE_MAX))
}

/// When to fetch again after a success: at 70 to 80 % of the age, so that it never passes.
pub(super) fn ahead(age: Duration, chance: f64) -> Duration {
    age.mul_f64(0.8 - 0.1 * chance)
}

/// When to try again after so many failures in a row: twice as late each time, and 50 to 100 % of
/// that.
pub(super) fn retry(failures: u32, chance: f64) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(RETRY_MAX).mul_f64(0.5 + 0.5 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_what_is_configured_else_what_the_issuer_says_within_bounds() {
        let s = Duration::from_secs;
        for (configured, max_age, expected) in [
            (None, None, s(3600)),
            (None, Some(s(0)), s(300)),
            (None, Some(s(7200)), s(7200)),
            (None, Some(s(10_000_000)), s(86_400)),
            (Some(s(10)), Some(s(7200)), s(10)),
        ] {
            assert_eq!(age(configured, max_age), expected);
        }
    }

    #[test]
    fn keys_are_fetched_ahead_of_their_age_and_failures_are_retried_ever_later_up_to_a_bound() {
        for chance in [0.0, 0.5, 0.999] {
            let next = ahead(AGE, chance);
            assert!(next <= AGE.mul_f64(0.8) && next >= AGE.mul_f64(0.7), "{next:?}");
            let times: Vec<_> = (1..40).map(|n| retry(n, chance)).collect();
            assert!(times.is_sorted() && times.iter().all(|t| *t <= RETRY_MAX), "{times:?}");
            assert!(times[0] >= RETRY_FIRST / 2 && times[38] >= RETRY_MAX / 2, "{times:?}");
        }
    }
}
