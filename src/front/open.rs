//! How many connections are open on a shard, and waiting until none is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::shard::Shared;

/// Connections that are open on one shard.
#[derive(Default)]
pub(super) struct Open {
    count: AtomicUsize,
    none: Notify,
}

pub(super) struct OpenGuard(Arc<Open>);

impl Open {
    pub(super) fn enter(self: &Arc<Self>) -> OpenGuard {
        self.count.fetch_add(1, Ordering::Relaxed);
        OpenGuard(self.clone())
    }

    pub(super) async fn wait_until_none(&self) {
        loop {
            let ended = self.none.notified();
            if self.count.load(Ordering::Relaxed) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// What every connection of one listening socket shares.
pub(super) struct Each<A> {
    pub(super) shared: Arc<Shared>,
    pub(super) server: Arc<A>,
    pub(super) open: Arc<Open>,
    pub(super) configured: SocketAddr,
}

impl<A> Clone for Each<A> {
    fn clone(&self) -> Self {
        Each {
            shared: self.shared.clone(),
            server: self.server.clone(),
            open: self.open.clone(),
            configured: self.configured,
        }
    }
}
