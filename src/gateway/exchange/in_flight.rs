//! Requests in flight by sender, so that a new block ends the matching ones.
//!
//! Each shard has its own list. Other threads lock it only when the blocklist changes, so a request
//! takes and frees its slot almost without contention.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use super::buffered::BufferLimit;
use super::permits::Permits;
use crate::denial::Denial;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::token::{Blocklist, Verified};

/// Requests to judge by a new list per lock, so that the shard is not held up.
const PIECE: usize = 256;

/// The requests in flight of all shards.
pub struct RequestsInFlight {
    shards: Mutex<Vec<Arc<InFlightShard>>>,
    permits: Arc<Permits>,
    buffered: Arc<BufferLimit>,
}

impl RequestsInFlight {
    /// Creates it for at most this many requests, with their buffer account.
    pub fn new(most: usize, metrics: &Metrics) -> Self {
        let buffered = BufferLimit::new(metrics.requests.buffered_bytes());
        RequestsInFlight { shards: Mutex::default(), permits: Permits::new(most), buffered }
    }

    /// Returns the permits for requests in flight.
    pub(in crate::gateway) fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    /// Returns the account of their buffered bytes.
    pub(in crate::gateway) fn buffered(&self) -> &Arc<BufferLimit> {
        &self.buffered
    }

    /// Adds a shard.
    pub(in crate::gateway) fn shard(&self) -> Arc<InFlightShard> {
        let shard = Arc::<InFlightShard>::default();
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(shard.clone());
        shard
    }

    /// Ends all requests whose sender the list blocks. The list must be published already: later
    /// requests were judged by it.
    pub fn end_blocked(&self, list: &Blocklist) {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shards.iter().for_each(|shard| shard.judge(list));
    }
}

/// The requests in flight of one shard.
#[derive(Default)]
pub(in crate::gateway) struct InFlightShard(Mutex<Places>);

#[derive(Default)]
struct Places {
    all: Vec<Option<Sent>>,
    free: Vec<usize>,
}

/// A request in flight.
struct Sent {
    by: Arc<Verified>,
    blocked: Option<Denial>,
    /// The task of the request.
    waker: Option<Waker>,
}

impl Sent {
    fn judge(&mut self, list: &Blocklist) {
        if let Err(refusal) = list.judge(self.by.identity(), self.by.issued()) {
            self.blocked = Some(refusal.denial);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

impl InFlightShard {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request. `seen` is the generation of the blocklist before the request was judged. If
    /// the list has changed since, its scan may have missed this request, so the request is judged
    /// again.
    pub(in crate::gateway) fn enter(
        self: &Arc<Self>,
        by: Arc<Verified>,
        list: &Live<Blocklist>,
        seen: u64,
    ) -> InFlightEntry {
        let sent = Some(Sent { by, blocked: None, waker: None });
        let mut places = self.places();
        let place = match places.free.pop() {
            Some(place) => place,
            None => {
                places.all.push(None);
                places.all.len() - 1
            }
        };
        if let Some(empty) = places.all.get_mut(place) {
            *empty = sent;
        }
        drop(places);
        if list.generation() != seen {
            list.peek(|list| self.judge_piece(list, place, 1));
        }
        InFlightEntry { shard: self.clone(), place }
    }

    fn judge(&self, list: &Blocklist) {
        let mut from = 0;
        while self.judge_piece(list, from, PIECE) {
            from += PIECE;
        }
    }

    /// Judges some of them. Returns whether there may be more.
    fn judge_piece(&self, list: &Blocklist, from: usize, count: usize) -> bool {
        let mut places = self.places();
        places.all.iter_mut().skip(from).take(count).flatten().for_each(|sent| sent.judge(list));
        places.all.len() > from + count
    }
}

/// The slot of a request, freed on drop.
pub(in crate::gateway) struct InFlightEntry {
    shard: Arc<InFlightShard>,
    place: usize,
}

impl InFlightEntry {
    /// Returns the block that ends the request. If there is none, the task is woken when there is
    /// one.
    pub(in crate::gateway) fn poll_blocked(&self, cx: &Context<'_>) -> Option<Denial> {
        let mut places = self.shard.places();
        let sent = places.all.get_mut(self.place)?.as_mut()?;
        if sent.blocked.is_none() && !sent.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            sent.waker = Some(cx.waker().clone());
        }
        sent.blocked
    }
}

impl Drop for InFlightEntry {
    fn drop(&mut self) {
        let mut places = self.shard.places();
        let sent = places.all.get_mut(self.place).and_then(Option::take);
        places.free.push(self.place);
        drop(places);
        // This may be the last reference: drop it after the lock is released.
        drop(sent);
    }
}

#[cfg(test)]
mod tests;
