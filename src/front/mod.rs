//! The front: accepts connections, limits them, does the TLS handshake, and passes each one to the
//! HTTP server as a stream with deadlines.
//!
//! Knows nothing of requests, routes or tokens; never reads a certificate file.

mod binding;
mod body_rate;
mod chunks;
mod command;
mod conn;
mod deadline;
mod frames;
mod handshake;
mod handshake_limit;
mod limits;
mod lingering_close;
mod listener;
mod low_water;
mod open_connections;
mod own_probes;
mod pingora;
mod probe;
mod process_state;
mod proxy_header;
mod shard;
mod shard_connections;
mod state;
mod tcp;
mod transport;

pub use binding::{Binding, Door, Picked, TlsSource};
pub use body_rate::BodyRate;
pub use chunks::{Chunks, Malformed, is_token_byte};
pub use conn::Conn;
pub use deadline::Deadline;
pub use limits::{AddressLimit, Admission};
pub use listener::{Listener, at_home, bind};
pub use open_connections::{ByTlsVersion, OpenConnections};
pub use probe::Probe;
pub use proxy_header::judge_proxy_header;
pub use shard::{Front, FrontParams, Serve};
pub use state::{ConnInfo, ConnState, Cut, InFlight};
