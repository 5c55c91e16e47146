//! Serves the connections of one shard.

use std::sync::Arc;

use pingora_core::server::ShutdownWatch;

use super::Gateway;
use super::exchange::{Pool, RequestsInFlight};
use super::session;
use crate::front::{Conn, Serve};

/// The server of one shard, with its own pool of backend connections.
pub struct ShardServer(Arc<Gateway>);

impl ShardServer {
    /// Creates a server that keeps up to `idle_max` idle backend connections. `under_way` holds the
    /// requests in flight of all shards.
    pub fn new(mut gateway: Gateway, idle_max: usize, under_way: &RequestsInFlight) -> Arc<Self> {
        gateway.pool = Arc::new(Pool::new(idle_max));
        gateway.under_way = under_way.shard();
        gateway.buffered = under_way.buffered().clone();
        gateway.permits = Some(under_way.permits().clone());
        Arc::new(ShardServer(Arc::new(gateway)))
    }
}

impl Serve for ShardServer {
    async fn serve(&self, conn: Conn, shutdown: &ShutdownWatch) {
        let mut shutdown = shutdown.clone();
        if conn.is_http2() {
            session::serve_http2(&self.0, conn, &mut shutdown).await
        } else {
            session::serve_http1(&self.0, conn, &mut shutdown).await
        }
    }

    fn tidy(&self) {
        self.0.pool.tidy();
    }
}
