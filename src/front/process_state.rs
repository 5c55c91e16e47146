//! The state that connections share: all of the process, and those of one listening socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pingora_core::server::ShutdownWatch;
use rustls::ServerConfig;

use super::binding::Binding;
use super::handshake_limit::HandshakeLimit;
use super::limits::Admission;
use super::open_connections::OpenConnections;
use super::own_probes::OwnProbes;
use super::shard_connections::ShardConnections;
use super::state::OnRefusal;
use crate::config::Limits;
use crate::live::Live;
use crate::metrics::Metrics;

/// The state that all connections of the process share.
pub(super) struct ProcessState {
    pub(super) limits: Live<Limits>,
    pub(super) bindings: Live<Vec<Binding>>,
    pub(super) refuse_tls: Arc<ServerConfig>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) on_refusal: OnRefusal,
    pub(super) shutdown: ShutdownWatch,
    pub(super) admission: Arc<Admission>,
    pub(super) open_connections: OpenConnections,
    pub(super) own: Arc<OwnProbes>,
    pub(super) handshake_limit: HandshakeLimit,
    pub(super) next_id: AtomicU64,
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
