//! Requests a refetch of a value (a key set, for example): readers that miss something ask and wait
//! briefly, and one task fetches.
//!
//! Owns the bounds: the minimum interval, the number of waiters and the waiting time. Knows
//! nothing about the value.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// The longest time that a caller waits.
const WAIT: Duration = Duration::from_secs(2);

/// The largest number of callers that wait at once; the others continue without waiting.
const WAITING_MAX: usize = 256;

/// The asking half: cheap to clone.
#[derive(Clone)]
pub struct Refetch(Arc<FetchState>);

/// The fetching half. There is one for each value.
pub struct Fetching(Arc<FetchState>);

struct FetchState {
    interval: Duration,
    turns: Semaphore,
    state: watch::Sender<RefetchState>,
}

#[derive(Clone, Copy, Default)]
struct RefetchState {
    /// Start of the last fetch that a caller asked for.
    asked: Option<Instant>,
    /// A caller has asked, and no fetch has begun since.
    wanted: bool,
    under_way: bool,
    ended: u64,
}

impl RefetchState {
    /// Whether a fetch may begin now. Limited because unauthenticated clients can ask as often as
    /// they like.
    fn may_begin(&self, interval: Duration) -> bool {
        !self.under_way && self.asked.is_none_or(|asked| asked.elapsed() >= interval)
    }
}

/// Why a fetch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was due. Clients cannot cause it, so it does not count against the interval: a value
    /// published a moment later can be asked for at once.
    Due,
    /// A caller asked.
    Asked,
}

/// Returns both halves. Fetches that callers ask for begin at least `interval` apart.
pub fn refetch(interval: Duration) -> (Fetching, Refetch) {
    let shared = Arc::new(FetchState {
        interval,
        turns: Semaphore::new(WAITING_MAX),
        state: watch::Sender::new(RefetchState::default()),
    });
    (Fetching(shared.clone()), Refetch(shared))
}

impl Refetch {
    /// Waits until a fetch that is in flight, or one that begins now, has ended: two seconds at
    /// most. Returns at once if no fetch may begin or too many callers wait already.
    pub async fn ask(&self) {
        let Ok(_turn) = self.0.turns.try_acquire() else { return };
        let mut ends = self.0.state.subscribe();
        let now = *ends.borrow_and_update();
        // Check and request in one step: a fetch that begins in between answers this call, too.
        let asks = |state: &mut RefetchState| {
            let begins = state.ended == now.ended && state.may_begin(self.0.interval);
            begins && !std::mem::replace(&mut state.wanted, true)
        };
        self.0.state.send_if_modified(asks);
        let state = *ends.borrow_and_update();
        if state.ended == now.ended && !state.wanted && !state.under_way {
            return;
        }
        // The caller sees in the value itself whether the fetch succeeded, failed or hangs.
        let _ = tokio::time::timeout(WAIT, ends.wait_for(|s| s.ended != now.ended)).await;
    }
}

impl std::fmt::Debug for Refetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Refetch(at most once in {:?})", self.0.interval)
    }
}

impl Fetching {
    /// Waits until a caller asks and a fetch may begin. Cancel-safe.
    pub async fn wanted(&self) {
        // Invariant: self holds the sender, so the wait cannot end with a closed channel.
        let _ = self.0.state.subscribe().wait_for(|state| state.wanted).await;
    }

    /// Marks that a fetch begins.
    pub fn begin(&self, cause: Cause) {
        self.0.state.send_modify(|state| {
            if cause == Cause::Asked {
                state.asked = Some(Instant::now());
            }
            state.wanted = false;
            state.under_way = true;
        });
    }

    /// Marks that the fetch has ended and its result is published.
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
    async fn an_asker_waits_for_a_fetch_once_per_interval() {
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
    async fn a_hung_fetch_delays_few_askers_for_a_bounded_time() {
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
    async fn one_fetch_answers_all_who_ask() {
        let (fetching, refetch) = refetch(INTERVAL);
        let ((), (), ()) = tokio::join!(refetch.ask(), refetch.ask(), async {
            fetching.wanted().await;
            // The fetch becomes due at the moment when it is asked for.
            fetching.begin(Cause::Due);
            fetching.end();
        });
        let again = tokio::time::timeout(INTERVAL * 10, fetching.wanted()).await;
        assert!(again.is_err(), "nobody asks any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_due_fetch_does_not_prevent_a_requested_one() {
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
