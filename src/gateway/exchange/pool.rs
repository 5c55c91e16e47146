//! The connection pool: idle backend connections.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::transport::{Peer, Stream};

/// The idle connections of one shard.
#[derive(Default)]
pub(in crate::gateway) struct Pool {
    idle: Mutex<Idle>,
    max: usize,
}

#[derive(Default)]
struct Idle {
    of: HashMap<Peer, Vec<IdleConnection>>,
    count: usize,
}

/// An idle connection.
pub(in crate::gateway) struct IdleConnection {
    stream: Stream,
    since: Instant,
    until: Instant,
}

impl IdleConnection {
    pub(in crate::gateway) fn new(stream: Stream, idle_time: Duration) -> Self {
        let since = Instant::now();
        IdleConnection { stream, since, until: since + idle_time }
    }

    /// Returns the connection, if it is not past its idle timeout and still usable.
    pub(in crate::gateway) fn take(mut self) -> Option<Stream> {
        (self.until > Instant::now() && self.is_quiet()).then_some(self.stream)
    }

    /// Checks that nothing arrived on it: neither a close nor unsolicited bytes.
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

    /// Takes the most recently used connection to `peer`, if it was idle no longer than `age`.
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

    /// Adds a connection, unless the pool is full.
    pub(in crate::gateway) fn put(&self, peer: Peer, stream: Stream, idle_time: Duration) {
        let mut idle = self.idle();
        if idle.count < self.max {
            idle.count += 1;
            idle.of.entry(peer).or_default().push(IdleConnection::new(stream, idle_time));
        }
    }

    /// Drops connections that were idle for too long or that the backend has closed.
    pub(in crate::gateway) fn tidy(&self) {
        let mut idle = self.idle();
        let now = Instant::now();
        idle.of.retain(|_, waiting| {
            waiting.retain_mut(|one| one.until > now && one.is_quiet());
            !waiting.is_empty()
        });
        idle.count = idle.of.values().map(Vec::len).sum();
    }
}
