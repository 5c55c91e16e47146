//! Counts the open connections of a shard, and waits until there are none (drain).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

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
