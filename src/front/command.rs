//! What a front asks of its shards.

use std::net::{SocketAddr, TcpListener};

use tokio::sync::oneshot;

/// A request to one shard.
pub(super) enum Command {
    /// Shows that its thread runs.
    Answer { done: oneshot::Sender<()> },
    /// Accepts connections on a socket.
    Open { address: SocketAddr, configured: SocketAddr, socket: TcpListener },
    /// Closes the socket of an address.
    Close { address: SocketAddr, done: oneshot::Sender<()> },
}
