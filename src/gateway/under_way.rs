//! Requests under way, by whoever sent them, so that a block ends those that it is about.
//!
//! Each shard has a list of its own, which nobody else touches but when the blocklist changes: a
//! request takes a place in it and gives that back, and waits for nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::denial::Denial;
use crate::live::Live;
use crate::token::{Blocklist, Verified};

/// How many requests are judged by a new list before their shard may go on.
const PIECE: usize = 256;

/// Those of all shards.
#[derive(Default)]
pub struct UnderWay(Mutex<Vec<Arc<Shard>>>);

impl UnderWay {
    /// One more shard.
    pub(super) fn shard(&self) -> Arc<Shard> {
        let shard = Arc::<Shard>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(shard.clone());
        shard
    }

    /// End whatever was sent by those whom a list blocks. It must be in force already: what begins
    /// from then on was judged by it.
    pub fn end_blocked(&self, list: &Blocklist) {
        let shards = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shards.iter().for_each(|shard| shard.judge(list));
    }
}

/// Those of one shard.
#[derive(Default)]
pub(super) struct Shard(Mutex<Places>);

#[derive(Default)]
struct Places {
    all: Vec<Option<Sent>>,
    free: Vec<usize>,
}

/// A request under way.
struct Sent {
    by: Arc<Verified>,
    blocked: Option<Denial>,
    /// Who waits for it to go on.
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

impl Shard {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request goes on. `seen` is the generation of the list before it was judged: if another has
    /// come since, its look around may have come too early for this one.
    pub(super) fn enter(
        self: &Arc<Self>,
        by: Arc<Verified>,
        list: &Live<Blocklist>,
        seen: u64,
    ) -> Place {
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
        Place { shard: self.clone(), place }
    }

    fn judge(&self, list: &Blocklist) {
        let mut from = 0;
        while self.judge_piece(list, from, PIECE) {
            from += PIECE;
        }
    }

    /// Judge some, and say whether there may be more.
    fn judge_piece(&self, list: &Blocklist, from: usize, count: usize) -> bool {
        let mut places = self.places();
        places.all.iter_mut().skip(from).take(count).flatten().for_each(|sent| sent.judge(list));
        places.all.len() > from + count
    }
}

/// A request's place, until it is over.
pub(super) struct Place {
    shard: Arc<Shard>,
    place: usize,
}

impl Place {
    /// Why the request must end, if it must.
    pub(super) fn blocked(&self) -> Option<Denial> {
        self.shard.places().all.get(self.place)?.as_ref()?.blocked
    }

    /// The same; if it need not, the task is woken when it must.
    pub(super) fn poll_blocked(&self, cx: &Context<'_>) -> Option<Denial> {
        let mut places = self.shard.places();
        let sent = places.all.get_mut(self.place)?.as_mut()?;
        if sent.blocked.is_none() && !sent.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            sent.waker = Some(cx.waker().clone());
        }
        sent.blocked
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.shard.places();
        let sent = places.all.get_mut(self.place).and_then(Option::take);
        places.free.push(self.place);
        drop(places);
        // What it holds may be the last of its kind, and is let go of while nobody waits.
        drop(sent);
    }
}

#[cfg(test)]
mod tests;
