//! The front door: accepts connections, bounds them, makes them TLS, and hands each one as a stream
//! with deadlines to whatever speaks HTTP on it.
//!
//! Knows nothing of requests, routes or tokens; never reads a certificate file.

mod binding;
mod census;
mod chunks;
mod conn;
mod deadline;
mod frames;
mod handshake;
mod limits;
mod lingering;
mod listener;
mod low_water;
mod open;
mod patience;
mod pingora;
mod probe;
mod proxy_header;
mod refusal;
mod shard;
mod state;
mod tcp;
mod transport;
mod turns;
mod watch;

pub use binding::{Binding, Door, Picked, TlsSource};
pub use census::{Census, Open};
pub use chunks::{Chunks, Malformed};
pub use conn::Conn;
pub use deadline::Deadline;
pub use limits::{AddressLimit, Admission};
pub use listener::{Listener, at_home, bind};
pub use patience::{Pace, Patience};
pub use probe::Probe;
pub use proxy_header::judge_proxy_header;
pub use shard::{Front, FrontParams, Serve};
pub use state::{ConnInfo, ConnState, Cut, InFlight};
