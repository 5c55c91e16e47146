//! How long a request body may keep others waiting: a grace, which is used up while nothing comes
//! and earned again by what does.

use std::time::Duration;

use tokio::time::Instant;

/// How fast a body has to come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long it may stand still, and the most that can be earned.
    pub grace: Duration,
    /// The rate that earns as much as it uses up.
    pub bytes_per_second: u32,
}

/// The patience with one body.
#[derive(Debug)]
pub struct Patience {
    pace: Pace,
    left: Duration,
    /// Since when its sender is waited for, if it is.
    waiting: Option<Instant>,
}

impl Patience {
    /// All of it.
    pub fn new(pace: Pace) -> Self {
        Patience { pace, left: pace.grace, waiting: None }
    }

    /// Bytes came.
    pub fn earn(&mut self, bytes: usize) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |since| since.elapsed());
        let rate = f64::from(self.pace.bytes_per_second.max(1));
        let earned = Duration::from_secs_f64(bytes as f64 / rate);
        self.left = (self.left.saturating_sub(waited) + earned).min(self.pace.grace);
    }

    /// The sender is waited for from now on, if it was not already: when that was too long.
    pub fn until(&mut self) -> Instant {
        *self.waiting.get_or_insert_with(Instant::now) + self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { grace: Duration::from_secs(10), bytes_per_second: 100 };

    async fn lasts(bytes: usize, every: Duration) -> Duration {
        let (mut patience, began) = (Patience::new(PACE), Instant::now());
        while began.elapsed() < Duration::from_secs(3600) {
            let until = patience.until();
            tokio::time::sleep(every).await;
            if Instant::now() >= until {
                return until - began;
            }
            patience.earn(bytes);
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_stand_still_for_its_grace_and_come_at_its_rate_for_ever() {
        assert_eq!(lasts(1, Duration::from_secs(60)).await, PACE.grace);
        assert!(lasts(101, Duration::from_secs(1)).await >= Duration::from_secs(3600));
        assert!(lasts(500, Duration::from_secs(5)).await >= Duration::from_secs(3600));
        let dripping = lasts(1, Duration::from_secs(1)).await;
        assert!(dripping < Duration::from_secs(12), "{dripping:?}");
        // What comes fast at first buys no more than the grace.
        let mut patience = Patience::new(PACE);
        patience.earn(1 << 30);
        assert!(patience.until() <= Instant::now() + PACE.grace);
    }
}
