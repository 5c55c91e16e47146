//! Connections to backends that wait for their next request.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The idle connections of one shard.
#[derive(Default)]
pub(in crate::gateway) struct Pool {
    idle: Mutex<Idle>,
    max: usize,
}

#[derive(Default)]
struct Idle {
    of: HashMap<SocketAddr, Vec<Waiting>>,
    count: usize,
}

struct Waiting {
    stream: TcpStream,
    since: Instant,
    until: Instant,
}

impl Waiting {
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

    /// The connection to `address` that was used last, if that was within `age`.
    pub(in crate::gateway) fn take(&self, address: SocketAddr, age: Duration) -> Option<TcpStream> {
        let mut idle = self.idle();
        let now = Instant::now();
        loop {
            let waiting = idle.of.get_mut(&address)?;
            // The last one is the youngest: if it is too old, all are.
            if waiting.last().is_some_and(|last| now.duration_since(last.since) > age) {
                return None;
            }
            let mut last = waiting.pop()?;
            idle.count -= 1;
            if last.until > now && last.is_quiet() {
                return Some(last.stream);
            }
        }
    }

    /// Keep a connection for the next request.
    pub(in crate::gateway) fn put(
        &self,
        address: SocketAddr,
        stream: TcpStream,
        idle_time: Duration,
    ) {
        let mut idle = self.idle();
        if idle.count < self.max {
            idle.count += 1;
            let since = Instant::now();
            let waiting = Waiting { stream, since, until: since + idle_time };
            idle.of.entry(address).or_default().push(waiting);
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
