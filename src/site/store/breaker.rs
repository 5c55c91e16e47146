//! A circuit breaker: while a database is unreachable, requests fail at once, and one probe at a
//! time tests it.
//!
//! A pure state machine: time and randomness are arguments. Does not know the database.

use std::time::Duration;

use tokio::time::Instant;

/// The backoff after the first failure, and its maximum: each failed probe doubles it. One site
/// server thus sends an unreachable database one attempt in two seconds, and clients wait no longer
/// than that after it is back.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The time limit of a probe. If a probe is dropped, another may start after this time.
const PROBE_TIME: Duration = Duration::from_secs(3);

/// A circuit breaker, closed at first.
#[derive(Debug, Default)]
pub(super) struct Breaker(BreakerState);

#[derive(Clone, Copy, Debug, Default)]
enum BreakerState {
    #[default]
    Closed,
    /// Refuses everything before this time.
    Open { failed: u32, until: Instant },
    /// One probe is in flight, until this time at most.
    HalfOpen { failed: u32, until: Instant },
}

/// The breaker's decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It passes.
    Pass,
    /// It must probe the database first.
    Probe,
    /// It fails at once.
    Refuse,
}

impl Breaker {
    /// Decides about a request.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        match self.0 {
            BreakerState::Closed => Turn::Pass,
            BreakerState::Open { failed, until } | BreakerState::HalfOpen { failed, until }
                if now >= until =>
            {
                self.0 = BreakerState::HalfOpen { failed, until: now + PROBE_TIME };
                Turn::Probe
            }
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => Turn::Refuse,
        }
    }

    /// The database has answered: closes the breaker.
    pub(super) fn succeeded(&mut self) {
        self.0 = BreakerState::Closed;
    }

    /// The database could not be reached. `chance` adds jitter between the attempts of several
    /// processes: from half of the backoff for 0 to all of it for [`u16::MAX`].
    pub(super) fn failed(&mut self, chance: u16, now: Instant) {
        let failed = match self.0 {
            BreakerState::Closed => 1,
            BreakerState::HalfOpen { failed, .. } => failed.saturating_add(1),
            // The request had passed before the breaker opened, and adds no information.
            BreakerState::Open { .. } => return,
        };
        let doublings = (failed - 1).min(16);
        let time = FIRST.saturating_mul(1 << doublings).min(LONGEST);
        let spread = time / 2 * u32::from(chance) / u32::from(u16::MAX);
        self.0 = BreakerState::Open { failed, until: now + time / 2 + spread };
    }

    /// Whether the breaker is closed.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.0, BreakerState::Closed)
    }

    /// The time of the next probe; `None` while the breaker is closed.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        match self.0 {
            BreakerState::Closed => None,
            BreakerState::Open { until, .. } | BreakerState::HalfOpen { until, .. } => Some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL_OF_IT: u16 = u16::MAX;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn it_opens_at_a_failure_and_closes_at_the_first_success() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.turn(now), Turn::Pass);
        breaker.failed(ALL_OF_IT, now);
        assert_eq!(breaker.turn(now), Turn::Refuse);
        assert_eq!(breaker.turn(now + ms(99)), Turn::Refuse);
        assert_eq!(breaker.turn(now + ms(100)), Turn::Probe);
        assert_eq!(breaker.turn(now + ms(100)), Turn::Refuse, "one probe at a time");
        breaker.succeeded();
        assert_eq!(breaker.turn(now + ms(100)), Turn::Pass);
    }

    #[test]
    fn failed_probes_come_less_and_less_often_and_still_come() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        breaker.failed(ALL_OF_IT, now);
        let mut waits = Vec::new();
        for _ in 0..40 {
            let next = breaker.next_probe().unwrap();
            waits.push((next - now).as_millis());
            now = next;
            assert_eq!(breaker.turn(now), Turn::Probe);
            breaker.failed(ALL_OF_IT, now);
        }
        assert_eq!(waits[..7], [100, 200, 400, 800, 1600, 2000, 2000]);
        assert!(waits[7..].iter().all(|wait| *wait == 2000));
        breaker.succeeded();
        breaker.failed(ALL_OF_IT, now);
        assert_eq!(breaker.next_probe(), Some(now + ms(100)), "a success begins anew");
    }

    #[test]
    fn what_had_passed_before_it_opened_delays_no_probe() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for late in 0..50 {
            breaker.failed(ALL_OF_IT, now + ms(late));
        }
        assert_eq!(breaker.next_probe(), Some(now + ms(100)));
    }

    #[test]
    fn a_probe_that_was_dropped_gives_its_turn_back() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.failed(ALL_OF_IT, now);
        let begun = now + ms(100);
        assert_eq!(breaker.turn(begun), Turn::Probe);
        assert_eq!(breaker.turn(begun + PROBE_TIME - ms(1)), Turn::Refuse);
        assert_eq!(breaker.turn(begun + PROBE_TIME), Turn::Probe);
    }

    proptest! {
        /// In any order of events: an open breaker lets nothing pass, at most one probe is in
        /// flight, and the next one is never later than the longest backoff
        /// or the time limit of a probe.
        #[test]
        fn an_open_breaker_passes_only_one_probe_at_a_time(steps in prop::collection::vec((0_u8..3, 0_u64..4000, any::<u16>()), 1..200)) {
            let (mut breaker, mut now) = (Breaker::default(), Instant::now());
            let (mut is_closed, mut probe) = (true, None::<Instant>);
            for (what, later, chance) in steps {
                now += ms(later);
                match what {
                    0 => match breaker.turn(now) {
                        Turn::Pass => prop_assert!(is_closed),
                        Turn::Probe => {
                            prop_assert!(!is_closed);
                            prop_assert!(probe.is_none_or(|begun| now >= begun + PROBE_TIME));
                            probe = Some(now);
                        }
                        Turn::Refuse => prop_assert!(!is_closed),
                    },
                    1 => {
                        breaker.failed(chance, now);
                        (is_closed, probe) = (false, None);
                    }
                    _ => {
                        breaker.succeeded();
                        (is_closed, probe) = (true, None);
                    }
                }
                prop_assert_eq!(breaker.is_closed(), is_closed);
                if let Some(next) = breaker.next_probe() {
                    prop_assert!(next <= now + LONGEST.max(PROBE_TIME));
                }
            }
        }
    }
}
