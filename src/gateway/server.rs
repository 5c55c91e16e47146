//! What serves the connections of one shard: the lane for ordinary requests, and pingora's proxy for
//! whatever else HTTP has.

use std::sync::Arc;

use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;

use super::Gateway;
use super::lane::{Lane, Pool};
use super::under_way::UnderWay;
use crate::front::{Conn, Serve};

/// Connections of HTTP/2: enough for one client's work, and no more than it can make us hold.
const STREAMS_MAX: u32 = 100;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 128 * 1024;
/// A request is tried on one more connection at most, and only where that cannot do it twice.
const TRIES_MAX: usize = 2;
/// pingora speaks no TLS here, and would panic on a machine that has no roots.
const NO_ROOTS: &str = "/dev/null";

/// The server of one shard, with connections to backends of its own.
pub struct Server {
    lane: Lane,
    proxy: Arc<HttpProxy<Gateway>>,
}

impl Server {
    /// A server that keeps up to `idle_max` idle connections to backends, and whose requests are
    /// among those `under_way`.
    pub fn new(mut gateway: Gateway, idle_max: usize, under_way: &UnderWay) -> Arc<Self> {
        gateway.pool = Arc::new(Pool::new(idle_max));
        gateway.under_way = under_way.shard();
        let conf = ServerConf {
            threads: 1,
            max_retries: TRIES_MAX,
            ca_file: Some(NO_ROOTS.to_owned()),
            ..ServerConf::default()
        };
        let mut proxy = HttpProxy::new(gateway.clone(), Arc::new(conf));
        let mut options = HttpServerOptions::default();
        // Refused by the framing check, where it gets its code and its line in the log.
        options.allow_connect_method_proxying = true;
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.max_concurrent_streams(STREAMS_MAX)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER);
        proxy.h2_options = Some(h2);
        proxy.handle_init_modules();
        Arc::new(Server { lane: Lane::new(gateway), proxy: Arc::new(proxy) })
    }
}

impl Serve for Server {
    async fn serve(&self, conn: Conn, shutdown: &ShutdownWatch) {
        let left = match conn.is_http2() {
            true => Some((conn, bytes::BytesMut::new())),
            false => self.lane.serve(conn, &mut shutdown.clone()).await,
        };
        let Some((conn, unread)) = left else { return };
        match conn.for_pingora(unread) {
            Ok(conn) => {
                self.proxy.process_new(conn, shutdown).await;
            }
            Err(error) => tracing::error!(%error, "a connection could not be served"),
        }
    }

    fn tidy(&self) {
        self.lane.tidy();
    }

    async fn end(&self) {
        self.proxy.cleanup().await;
    }
}
