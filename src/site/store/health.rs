//! How the store is: what was heard of it last, whether requests are let through to it, and who is
//! told of a change.
//!
//! Every use of the database ends here, as a success or as a failure. Asks nothing by itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Breaker, Turn};
use super::{StoreError, StoreFault};
use crate::live::{Live, Publisher, live};

/// How a store is.
#[derive(Clone, Debug, Default)]
pub struct StoreHealth {
    /// What keeps it from working; nothing while it works.
    pub trouble: Option<Trouble>,
}

/// What keeps a store from working.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What it is.
    pub fault: StoreFault,
    /// The same in words, with what the database says and how to mend it.
    pub told: String,
    /// Since when.
    pub since: Instant,
    /// When it worked last, if it ever did in this process.
    pub worked: Option<Instant>,
}

impl StoreHealth {
    /// That of a store which could not be opened.
    pub fn without(error: &StoreError, now: Instant) -> Self {
        let (fault, told) = (error.fault(), error.advice());
        StoreHealth { trouble: Some(Trouble { fault, told, since: now, worked: None }) }
    }
}

/// What somebody who watches a store is told.
#[derive(Debug)]
pub enum StoreEvent<'a> {
    /// Something of it failed. Each failure is told.
    Failed(StoreFault),
    /// It works no longer.
    Down(&'a Trouble),
    /// It works again.
    Up {
        /// What it was that ended.
        trouble: &'a Trouble,
        /// How many requests to it failed meanwhile.
        failed: u64,
    },
}

/// Told of what happens to a store.
pub type OnStore = Arc<dyn Fn(StoreEvent<'_>) + Send + Sync>;

/// What a success has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The database answers.
    Answers,
    /// It takes what is written.
    Writes,
}

/// The health of one store, and its circuit breaker.
pub(super) struct Health {
    heard: Mutex<Heard>,
    /// Why nobody is let through at present.
    away: watch::Sender<Option<(StoreFault, String)>>,
    /// Whether somebody probes in the background, so that no request has to.
    is_watched: AtomicBool,
    publisher: Publisher<StoreHealth>,
    on_event: OnceLock<OnStore>,
}

#[derive(Default)]
struct Heard {
    breaker: Breaker,
    trouble: Option<Trouble>,
    /// Failures since the trouble began.
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

    /// Tell somebody, from now on and of what is amiss already. The first who asks is told.
    pub(super) fn tell(&self, on_event: OnStore) {
        let on_event = self.on_event.get_or_init(|| on_event);
        if let Some(trouble) = &self.lock().trouble {
            on_event(StoreEvent::Down(trouble));
        }
    }

    pub(super) fn set_watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Release);
    }

    /// The turn of a request: to pass, or to probe first where nobody else does.
    ///
    /// # Errors
    /// Why nobody is let through.
    pub(super) fn admit(&self, now: Instant) -> Result<Turn, StoreError> {
        let is_watched = self.is_watched.load(Ordering::Acquire);
        let turn = {
            let mut heard = self.lock();
            match is_watched && !heard.breaker.is_closed() {
                true => Turn::Refuse,
                false => heard.breaker.turn(now),
            }
        };
        let away = if turn == Turn::Refuse { self.away.borrow().clone() } else { None };
        let Some((fault, said)) = away else { return Ok(turn) };
        self.lock().failed += 1;
        self.say(StoreEvent::Failed(fault));
        Err(StoreError::Server { fault, said })
    }

    /// Whether whoever watches has to probe now.
    pub(super) fn is_probe_due(&self, now: Instant) -> bool {
        self.lock().breaker.turn(now) == Turn::Probe
    }

    /// When the next probe is due; nothing while everybody is let through.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.lock().breaker.next_probe()
    }

    /// Returns once nobody is let through, with the reason.
    pub(super) async fn until_away(&self) -> StoreError {
        let mut away = self.away.subscribe();
        loop {
            if let Some((fault, said)) = away.borrow_and_update().clone() {
                return StoreError::Server { fault, said };
            }
            // Invariant of the channel: `self` holds its sender, so it stays open.
            if away.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why nobody is let through.
    pub(super) fn away(&self) -> Option<StoreFault> {
        self.away.borrow().as_ref().map(|(fault, _)| *fault)
    }

    /// What came of something that ends a use of the database.
    pub(super) fn heard<T>(
        &self,
        outcome: Result<T, StoreError>,
        shown: Shown,
    ) -> Result<T, StoreError> {
        if outcome.is_ok() {
            self.succeeded(shown, Instant::now());
        }
        self.noted(outcome)
    }

    /// What came of something in the middle of one: only a failure says anything.
    pub(super) fn noted<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|error| self.failed(error, chance(), Instant::now()))
    }

    pub(super) fn worked(&self) -> Option<Instant> {
        self.lock().worked
    }

    pub(super) fn is_amiss(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// Something was done.
    pub(super) fn succeeded(&self, shown: Shown, now: Instant) {
        let (ended, failed) = {
            let mut heard = self.lock();
            heard.worked = Some(now);
            if !heard.breaker.is_closed() {
                heard.breaker.succeeded();
                self.away.send_replace(None);
            }
            let ends =
                |trouble: &mut Trouble| shown == Shown::Writes || !trouble.fault.is_of_writing();
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

    /// Something failed. `chance` is any number.
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

/// Any number; without chance, all servers probe at the same moments.
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

    /// What a watcher is told, a word for each event.
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
    fn a_trouble_is_told_once_when_it_begins_and_once_when_it_ends() {
        let ((health, told), now) = (heard(), Instant::now());
        health.succeeded(Shown::Writes, now);
        for _ in 0..3 {
            health.failed(&away(), 0, now);
        }
        let refused = health.admit(now).unwrap_err();
        assert_eq!(refused.fault(), StoreFault::Unreachable, "who fails at once has the reason");
        health.succeeded(Shown::Answers, now);
        health.succeeded(Shown::Writes, now);
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
    fn a_store_that_can_only_be_read_works_again_when_something_is_written() {
        let ((health, told), now) = (heard(), Instant::now());
        health.failed(&StoreError::Full, 0, now);
        assert_eq!(health.admit(now).unwrap(), Turn::Pass, "it can be read");
        health.succeeded(Shown::Answers, now);
        assert!(health.is_amiss());
        health.succeeded(Shown::Writes, now);
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
    fn where_somebody_watches_no_request_has_to_probe() {
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
    async fn whoever_waits_is_told_once_the_database_is_found_to_be_away() {
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
