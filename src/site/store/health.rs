//! The health of the store: its last result, whether requests are admitted (circuit breaker), and
//! who is notified of changes.
//!
//! Every use of the database reports its success or failure here. Sends no queries itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Breaker, Turn};
use super::{StoreError, StoreFault};
use crate::live::{Live, Publisher, live};

/// The health of a store.
#[derive(Clone, Debug, Default)]
pub struct StoreHealth {
    /// The current trouble; `None` while the store works.
    pub trouble: Option<Trouble>,
}

/// Why a store does not work.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The fault.
    pub fault: StoreFault,
    /// A description with the database's message and the remedy.
    pub told: String,
    /// The time when it began.
    pub since: Instant,
    /// The time of the last success in this process, if any.
    pub worked: Option<Instant>,
}

impl StoreHealth {
    /// The health of a store that could not be opened.
    pub fn without(error: &StoreError, now: Instant) -> Self {
        let (fault, told) = (error.fault(), error.advice());
        StoreHealth { trouble: Some(Trouble { fault, told, since: now, worked: None }) }
    }
}

/// An event of a store, for its observer.
#[derive(Debug)]
pub enum StoreEvent<'a> {
    /// An operation failed. Reported for each failure.
    Failed(StoreFault),
    /// The store has stopped working.
    Down(&'a Trouble),
    /// It works again.
    Up {
        /// The trouble that has ended.
        trouble: &'a Trouble,
        /// The number of requests that failed during it.
        failed: u64,
    },
}

/// Called for every event of a store.
pub type OnStore = Arc<dyn Fn(StoreEvent<'_>) + Send + Sync>;

/// What a success has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthChange {
    /// The database responds.
    Answers,
    /// It accepts writes.
    Writes,
}

/// The health of one store, and its circuit breaker.
pub(super) struct Health {
    heard: Mutex<Heard>,
    /// Why no requests are admitted now.
    away: watch::Sender<Option<(StoreFault, String)>>,
    /// Whether a background task probes, so that requests need not.
    is_watched: AtomicBool,
    publisher: Publisher<StoreHealth>,
    on_event: OnceLock<OnStore>,
}

#[derive(Default)]
struct Heard {
    breaker: Breaker,
    trouble: Option<Trouble>,
    /// The number of failures since the trouble began.
    failed: u64,
    worked: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            heard: Mutex::default(),
            away: watch::Sender::new(None),
            is_watched: AtomicBool::new(false),
            publisher: live(StoreHealth::default()).0,
            on_event: OnceLock::new(),
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Health({:?})", self.lock().trouble)
    }
}

impl Health {
    pub(super) fn reader(&self) -> Live<StoreHealth> {
        self.publisher.reader()
    }

    /// Registers the observer, and reports an existing trouble to it. Only the first observer is
    /// used.
    pub(super) fn tell(&self, on_event: OnStore) {
        let on_event = self.on_event.get_or_init(|| on_event);
        if let Some(trouble) = &self.lock().trouble {
            on_event(StoreEvent::Down(trouble));
        }
    }

    pub(super) fn set_watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Release);
    }

    /// Decides about a request: pass, or probe first if no other task does.
    ///
    /// # Errors
    /// Why no requests are admitted.
    pub(super) fn admit(&self, now: Instant) -> Result<Turn, StoreError> {
        let is_watched = self.is_watched.load(Ordering::Acquire);
        let turn = {
            let mut heard = self.lock();
            if is_watched && !heard.breaker.is_closed() {
                Turn::Refuse
            } else {
                heard.breaker.turn(now)
            }
        };
        let away = if turn == Turn::Refuse { self.away.borrow().clone() } else { None };
        let Some((fault, said)) = away else { return Ok(turn) };
        self.lock().failed += 1;
        self.say(StoreEvent::Failed(fault));
        Err(StoreError::Server { fault, said })
    }

    /// Whether the background task must probe now.
    pub(super) fn is_probe_due(&self, now: Instant) -> bool {
        self.lock().breaker.turn(now) == Turn::Probe
    }

    /// The time of the next probe; `None` while requests are admitted.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.lock().breaker.next_probe()
    }

    /// Returns the reason once no requests are admitted.
    pub(super) async fn until_away(&self) -> StoreError {
        let mut away = self.away.subscribe();
        loop {
            if let Some((fault, said)) = away.borrow_and_update().clone() {
                return StoreError::Server { fault, said };
            }
            // Invariant: `self` holds the channel's sender, so it stays open.
            if away.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why no requests are admitted.
    pub(super) fn away(&self) -> Option<StoreFault> {
        self.away.borrow().as_ref().map(|(fault, _)| *fault)
    }

    /// Reports the result of a completed use of the database.
    pub(super) fn heard<T>(
        &self,
        outcome: Result<T, StoreError>,
        shown: HealthChange,
    ) -> Result<T, StoreError> {
        if outcome.is_ok() {
            self.succeeded(shown, Instant::now());
        }
        self.noted(outcome)
    }

    /// Reports the result of an intermediate step: only a failure is significant.
    pub(super) fn noted<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|error| self.failed(error, chance(), Instant::now()))
    }

    pub(super) fn worked(&self) -> Option<Instant> {
        self.lock().worked
    }

    pub(super) fn is_amiss(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// Reports a success.
    pub(super) fn succeeded(&self, shown: HealthChange, now: Instant) {
        let (ended, failed) = {
            let mut heard = self.lock();
            heard.worked = Some(now);
            if !heard.breaker.is_closed() {
                heard.breaker.succeeded();
                self.away.send_replace(None);
            }
            let ends = |trouble: &mut Trouble| {
                shown == HealthChange::Writes || !trouble.fault.is_of_writing()
            };
            let ended = heard.trouble.take_if(ends);
            if ended.is_some() {
                self.publisher.publish(StoreHealth::default());
            }
            (ended, heard.failed)
        };
        if let Some(trouble) = ended {
            self.say(StoreEvent::Up { trouble: &trouble, failed });
        }
    }

    /// Reports a failure. `chance` is a random number for jitter.
    pub(super) fn failed(&self, error: &StoreError, chance: u16, now: Instant) {
        let fault = error.fault();
        let began = {
            let mut heard = self.lock();
            if fault.is_away() {
                heard.breaker.failed(chance, now);
                self.away.send_replace(Some((fault, error.said())));
            }
            heard.failed += 1;
            let before = heard.trouble.as_ref().map(|trouble| (trouble.fault, trouble.since));
            match before {
                _ if !fault.is_of_the_store() => None,
                Some((same, _)) if same == fault => None,
                _ => {
                    let since = before.map_or(now, |(_, since)| since);
                    let (told, worked) = (error.advice(), heard.worked);
                    let trouble = Trouble { fault, told, since, worked };
                    heard.trouble = Some(trouble.clone());
                    self.publisher.publish(StoreHealth { trouble: Some(trouble.clone()) });
                    let is_first = before.is_none();
                    if is_first {
                        heard.failed = 1;
                    }
                    is_first.then_some(trouble)
                }
            }
        };
        self.say(StoreEvent::Failed(fault));
        if let Some(trouble) = began {
            self.say(StoreEvent::Down(&trouble));
        }
    }

    fn say(&self, event: StoreEvent<'_>) {
        if let Some(on_event) = self.on_event.get() {
            on_event(event);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random number: without jitter, all servers would probe at the same time.
fn chance() -> u16 {
    let mut bytes = [0; 2];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn away() -> StoreError {
        let said = "connection refused".to_owned();
        StoreError::Server { fault: StoreFault::Unreachable, said }
    }

    /// Records the events for an observer, one text per event.
    fn heard() -> (Arc<Health>, Arc<Mutex<Vec<String>>>) {
        let (health, told) = (Arc::new(Health::default()), Arc::<Mutex<Vec<String>>>::default());
        let into = told.clone();
        health.tell(Arc::new(move |event| {
            into.lock().unwrap().push(match event {
                StoreEvent::Failed(fault) => format!("failed {}", fault.code()),
                StoreEvent::Down(trouble) => format!("down {}", trouble.fault.code()),
                StoreEvent::Up { failed, .. } => format!("up after {failed}"),
            });
        }));
        (health, told)
    }

    fn events(told: &Mutex<Vec<String>>) -> Vec<String> {
        told.lock().unwrap().iter().filter(|event| !event.starts_with("failed")).cloned().collect()
    }

    #[test]
    fn an_outage_is_reported_when_it_begins_and_when_it_ends() {
        let ((health, told), now) = (heard(), Instant::now());
        health.succeeded(HealthChange::Writes, now);
        for _ in 0..3 {
            health.failed(&away(), 0, now);
        }
        let refused = health.admit(now).unwrap_err();
        assert_eq!(refused.fault(), StoreFault::Unreachable, "who fails at once has the reason");
        health.succeeded(HealthChange::Answers, now);
        health.succeeded(HealthChange::Writes, now);
        assert_eq!(events(&told), ["down store.unreachable", "up after 4"]);
        assert_eq!(told.lock().unwrap().len(), 2 + 4, "each failure is counted");
    }

    #[test]
    fn a_trouble_keeps_its_beginning_when_its_cause_changes() {
        let ((health, told), begun) = (heard(), Instant::now());
        health.failed(&away(), 0, begun);
        let starting = StoreError::Server { fault: StoreFault::NotReady, said: String::new() };
        health.failed(&starting, 0, begun + Duration::from_secs(5));
        let trouble = health.reader().load().trouble.clone().unwrap();
        assert_eq!((trouble.fault, trouble.since), (StoreFault::NotReady, begun));
        assert_eq!(events(&told), ["down store.unreachable"], "it is one trouble");
    }

    #[test]
    fn a_read_only_store_is_up_after_a_write_succeeds() {
        let ((health, told), now) = (heard(), Instant::now());
        health.failed(&StoreError::Full, 0, now);
        assert_eq!(health.admit(now).unwrap(), Turn::Pass, "it can be read");
        health.succeeded(HealthChange::Answers, now);
        assert!(health.is_amiss());
        health.succeeded(HealthChange::Writes, now);
        assert_eq!(events(&told), ["down store.full", "up after 1"]);
    }

    #[test]
    fn what_a_transaction_is_refused_for_says_nothing_of_the_store() {
        let ((health, told), now) = (heard(), Instant::now());
        let own = [StoreError::Busy, StoreError::Refused("unique".into())];
        for error in own {
            health.failed(&error, 0, now);
        }
        assert_eq!(health.admit(now).unwrap(), Turn::Pass);
        assert!(!health.is_amiss() && events(&told).is_empty());
    }

    #[test]
    fn while_a_watcher_probes_requests_do_not() {
        let (health, now) = (Health::default(), Instant::now());
        health.failed(&away(), 0, now);
        let later = now + Duration::from_secs(60);
        health.set_watched(true);
        assert!(health.admit(later).is_err());
        assert!(health.is_probe_due(later));
        health.set_watched(false);
        let again = later + Duration::from_secs(60);
        assert_eq!(health.admit(again).unwrap(), Turn::Probe);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_requests_fail_once_the_database_is_away() {
        let health = Arc::new(Health::default());
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { health.until_away().await.fault() }
        });
        tokio::task::yield_now().await;
        health.failed(&away(), 0, Instant::now());
        assert_eq!(waiting.await.unwrap(), StoreFault::Unreachable);
    }
}
