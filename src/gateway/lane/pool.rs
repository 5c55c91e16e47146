//! Connections to backends that wait for their next request.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use crate::gateway::connection::{Peer, Stream};

/// The idle connections of one shard.
#[derive(Default)]
pub(in crate::gateway) struct Pool {
    idle: Mutex<Idle>,
    max: usize,
}

#[derive(Default)]
struct Idle {
    of: HashMap<Peer, Vec<Waiting>>,
    count: usize,
}

/// A connection that waits.
pub(in crate::gateway) struct Waiting {
    stream: Stream,
    since: Instant,
    until: Instant,
}

impl Waiting {
    pub(in crate::gateway) fn new(stream: Stream, idle_time: Duration) -> Self {
        let since = Instant::now();
        Waiting { stream, since, until: since + idle_time }
    }

    /// The connection, if it has not waited too long and can still be used.
    pub(in crate::gateway) fn take(mut self) -> Option<Stream> {
        (self.until > Instant::now() && self.is_quiet()).then_some(self.stream)
    }

    /// Whether nothing came on it: neither its end, nor bytes that nobody asked for.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let mut buffer = ReadBuf::uninit(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        matches!(Pin::new(&mut self.stream).poll_read(&mut cx, &mut buffer), Poll::Pending)
    }
}

impl Pool {
    pub(in crate::gateway) fn new(max: usize) -> Self {
        Pool { idle: Mutex::default(), max }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to `peer` that was used last, if that was within `age`.
    pub(in crate::gateway) fn take(&self, peer: &Peer, age: Duration) -> Option<Stream> {
        let mut idle = self.idle();
        let now = Instant::now();
        loop {
            let waiting = idle.of.get_mut(peer)?;
            // The last one is the youngest: if it is too old, all are.
            if waiting.last().is_some_and(|last| now.duration_since(last.since) > age) {
                return None;
            }
            let last = waiting.pop()?;
            idle.count -= 1;
            if let Some(stream) = last.take() {
                return Some(stream);
            }
        }
    }

    /// Keep a connection for the next request.
    pub(in crate::gateway) fn put(&self, peer: Peer, stream: Stream, idle_time: Duration) {
        let mut idle = self.idle();
        if idle.count < self.max {
            idle.count += 1;
            idle.of.entry(peer).or_default().push(Waiting::new(stream, idle_time));
        }
    }

    /// Let go of connections that were idle for too long, or that the backend has closed.
    pub(super) fn tidy(&self) {
        let mut idle = self.idle();
        let now = Instant::now();
        idle.of.retain(|_, waiting| {
            waiting.retain_mut(|one| one.until > now && one.is_quiet());
            !waiting.is_empty()
        });
        idle.count = idle.of.values().map(Vec::len).sum();
    }
}
