//! The schedule of key fetches: ahead of their expiry, and exponential backoff after failures.
//!
//! Pure: the random number (from 0 up to 1) is an argument. Jitter keeps many gateways from
//! fetching at the same moment.

use std::time::Duration;

/// The bounds of the age that an issuer may declare for its keys.
const AGE_MIN: Duration = Duration::from_secs(5 * 60);
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The age if the issuer declares none.
const AGE: Duration = Duration::from_secs(3600);

const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);

/// How old fetched keys may become before they are fetched again: the configured age, else the one
/// that the issuer declares, within bounds.
pub(super) fn age(configured: Option<Duration>, max_age: Option<Duration>) -> Duration {
    configured.unwrap_or_else(|| max_age.unwrap_or(AGE).clamp(AGE_MIN, AGE_MAX))
}

/// The delay after a successful fetch: 70 to 80 % of the age, so that the keys never pass it.
pub(super) fn ahead(age: Duration, chance: f64) -> Duration {
    age.mul_f64(0.8 - 0.1 * chance)
}

/// The delay after so many consecutive failures: it doubles each time, with a jitter of 50 to 100
/// %.
pub(super) fn retry(failures: u32, chance: f64) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(RETRY_MAX).mul_f64(0.5 + 0.5 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_age_is_configured_or_max_age_within_bounds() {
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
    fn keys_are_fetched_early_and_retries_back_off_to_a_bound() {
        for chance in [0.0, 0.5, 0.999] {
            let next = ahead(AGE, chance);
            assert!(next <= AGE.mul_f64(0.8) && next >= AGE.mul_f64(0.7), "{next:?}");
            let times: Vec<_> = (1..40).map(|n| retry(n, chance)).collect();
            assert!(times.is_sorted() && times.iter().all(|t| *t <= RETRY_MAX), "{times:?}");
            assert!(times[0] >= RETRY_FIRST / 2 && times[38] >= RETRY_MAX / 2, "{times:?}");
        }
    }
}
