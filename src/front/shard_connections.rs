//! Counts the open connections of a shard, and waits until there are none (drain).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::shard::ProcessState;

/// The open connections of one shard.
#[derive(Default)]
pub(super) struct ShardConnections {
    count: AtomicUsize,
    none: Notify,
}

pub(super) struct ConnectionGuard(Arc<ShardConnections>);

impl ShardConnections {
    pub(super) fn enter(self: &Arc<Self>) -> ConnectionGuard {
        self.count.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(self.clone())
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

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// The state that all connections of one listening socket share.
pub(super) struct Each<A> {
    pub(super) shared: Arc<ProcessState>,
    pub(super) server: Arc<A>,
    pub(super) open: Arc<ShardConnections>,
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
