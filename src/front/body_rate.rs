//! The minimum body rate of a request, with a grace time. The grace is used up while the gateway
//! waits for bytes, and earned back by bytes that arrive.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// The remaining grace of one body.
#[derive(Debug)]
pub struct BodyRate {
    /// The longest pause, and the most that can be earned.
    grace: Duration,
    /// The rate at which earning and use are equal.
    bytes_per_second: usize,
    left: Duration,
    /// The start of the wait for the sender, if there is one.
    waiting: Option<Instant>,
}

impl BodyRate {
    /// Starts with the full grace.
    pub fn new(limits: &Limits) -> Self {
        let (grace, bytes_per_second) = (limits.body_grace, limits.body_bytes_per_second);
        BodyRate { grace, bytes_per_second, left: grace, waiting: None }
    }

    /// Records that bytes arrived.
    pub fn earn(&mut self, bytes: usize) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |since| since.elapsed());
        let rate = self.bytes_per_second.max(1) as f64;
        let earned = Duration::from_secs_f64(bytes as f64 / rate);
        self.left = (self.left.saturating_sub(waited) + earned).min(self.grace);
    }

    /// Starts to wait for the sender, unless a wait is on. Returns the time at which the grace
    /// ends.
    pub fn until(&mut self) -> Instant {
        *self.waiting.get_or_insert_with(Instant::now) + self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let (body_grace, body_bytes_per_second) = (Duration::from_secs(10), 100);
        Limits { body_grace, body_bytes_per_second, ..Limits::default() }
    }

    async fn lasts(bytes: usize, every: Duration) -> Duration {
        let (mut rate, began) = (BodyRate::new(&limits()), Instant::now());
        while began.elapsed() < Duration::from_secs(3600) {
            let until = rate.until();
            tokio::time::sleep(every).await;
            if Instant::now() >= until {
                return until - began;
            }
            rate.earn(bytes);
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_stall_for_its_grace_or_keep_its_rate() {
        assert_eq!(lasts(1, Duration::from_secs(60)).await, limits().body_grace);
        assert!(lasts(101, Duration::from_secs(1)).await >= Duration::from_secs(3600));
        assert!(lasts(500, Duration::from_secs(5)).await >= Duration::from_secs(3600));
        let dripping = lasts(1, Duration::from_secs(1)).await;
        assert!(dripping < Duration::from_secs(12), "{dripping:?}");
        // A fast start earns no more than the grace.
        let mut rate = BodyRate::new(&limits());
        rate.earn(1 << 30);
        assert!(rate.until() <= Instant::now() + limits().body_grace);
    }
}
