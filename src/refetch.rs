//! Asking for a value to be fetched anew: whoever misses something asks and waits a little, one task
//! fetches.
//!
//! Owns the bounds of it: how often, how many wait, and for how long. Knows nothing of what is
//! fetched.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// How long whoever asks waits at most.
const WAIT: Duration = Duration::from_secs(2);

/// How many wait at once; the others go on without.
const WAITING_MAX: usize = 256;

/// The asking half: cheap to clone.
#[derive(Clone)]
pub struct Refetch(Arc<Shared>);

/// The fetching half. There is one for each value.
pub struct Fetching(Arc<Shared>);

struct Shared {
    interval: Duration,
    turns: Semaphore,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// When the last one began that somebody asked for.
    asked: Option<Instant>,
    /// Somebody asks, and no fetch has begun since.
    wanted: bool,
    under_way: bool,
    ended: u64,
}

impl State {
    /// Whether a fetch may begin now: strangers can ask as often as they like.
    fn may_begin(&self, interval: Duration) -> bool {
        !self.under_way && self.asked.is_none_or(|asked| asked.elapsed() >= interval)
    }
}

/// Why a fetch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was time. Strangers have no part in it, so it stands in nobody's way: what is published a
    /// moment later can be asked for at once.
    Due,
    /// Somebody asked.
    Asked,
}

/// Both halves; between the beginnings of two fetches that were asked for lies at least `interval`.
pub fn refetch(interval: Duration) -> (Fetching, Refetch) {
    let shared = Arc::new(Shared {
        interval,
        turns: Semaphore::new(WAITING_MAX),
        state: watch::Sender::new(State::default()),
    });
    (Fetching(shared.clone()), Refetch(shared))
}

impl Refetch {
    /// Wait until a fetch that is under way, or one that begins now, has ended: two seconds at
    /// most, and not at all where none may begin or too many wait already.
    pub async fn ask(&self) {
        let Ok(_turn) = self.0.turns.try_acquire() else { return };
        let mut ends = self.0.state.subscribe();
        let now = *ends.borrow_and_update();
        // Looked at and said in one step: a fetch that begins in between is the answer.
        let asks = |state: &mut State| {
            let begins = state.ended == now.ended && state.may_begin(self.0.interval);
            begins && !std::mem::replace(&mut state.wanted, true)
        };
        self.0.state.send_if_modified(asks);
        let state = *ends.borrow_and_update();
        if state.ended == now.ended && !state.wanted && !state.under_way {
            return;
        }
        // Whether it ended, failed or hangs is for the caller to see in the value itself.
        let _ = tokio::time::timeout(WAIT, ends.wait_for(|s| s.ended != now.ended)).await;
    }
}

impl std::fmt::Debug for Refetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Refetch(at most once in {:?})", self.0.interval)
    }
}

impl Fetching {
    /// Wait until somebody asks and a fetch may begin. Cancel-safe.
    pub async fn wanted(&self) {
        // Invariant: the sending half is in self, so the wait cannot end by its end.
        let _ = self.0.state.subscribe().wait_for(|state| state.wanted).await;
    }

    /// A fetch begins.
    pub fn begin(&self, cause: Cause) {
        self.0.state.send_modify(|state| {
            if cause == Cause::Asked {
                state.asked = Some(Instant::now());
            }
            state.wanted = false;
            state.under_way = true;
        });
    }

    /// It has ended, and whatever came of it is published.
    pub fn end(&self) {
        self.0.state.send_modify(|state| {
            state.under_way = false;
            state.ended += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    async fn took(refetch: &Refetch) -> Duration {
        let began = Instant::now();
        refetch.ask().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_waits_for_the_fetch_and_within_the_interval_for_nothing() {
        let (fetching, refetch) = refetch(INTERVAL);
        let fetches = async {
            for _ in 0..2 {
                fetching.wanted().await;
                fetching.begin(Cause::Asked);
                tokio::time::sleep(Duration::from_millis(700)).await;
                fetching.end();
            }
        };
        let asks = async {
            let (a, b) = tokio::join!(took(&refetch), took(&refetch));
            assert_eq!((a, b), (Duration::from_millis(700), Duration::from_millis(700)));
            for _ in 0..10_000 {
                assert_eq!(took(&refetch).await, Duration::ZERO);
            }
            tokio::time::sleep(INTERVAL).await;
            assert_eq!(took(&refetch).await, Duration::from_millis(700));
        };
        tokio::join!(fetches, asks);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_hangs_holds_up_a_bounded_number_for_a_bounded_time() {
        let (fetching, refetch) = refetch(INTERVAL);
        fetching.begin(Cause::Asked);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let refetch = refetch.clone();
            tasks.spawn(async move { took(&refetch).await });
        }
        let times = tasks.join_all().await;
        let waited = times.iter().filter(|time| **time == WAIT).count();
        assert_eq!(waited, WAITING_MAX);
        assert_eq!(times.iter().filter(|time| time.is_zero()).count(), 1000 - WAITING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_begins_for_whatever_cause_is_the_answer_to_all_who_ask() {
        let (fetching, refetch) = refetch(INTERVAL);
        let ((), (), ()) = tokio::join!(refetch.ask(), refetch.ask(), async {
            fetching.wanted().await;
            // It is due just when it is asked for.
            fetching.begin(Cause::Due);
            fetching.end();
        });
        let again = tokio::time::timeout(INTERVAL * 10, fetching.wanted()).await;
        assert!(again.is_err(), "nobody asks any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_was_due_does_not_stand_in_the_way_of_one_that_is_asked_for() {
        let (fetching, refetch) = refetch(INTERVAL);
        fetching.begin(Cause::Due);
        fetching.end();
        let ((), ()) = tokio::join!(refetch.ask(), async {
            fetching.wanted().await;
            fetching.begin(Cause::Asked);
            fetching.end();
        });
        assert_eq!(took(&refetch).await, Duration::ZERO, "that one was asked for");
    }
}
