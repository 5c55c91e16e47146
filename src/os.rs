//! What operating systems do differently: signals, the service manager, who may read a file, file
//! identity, socket options, and facts about the machine.
//!
//! The only module that names one of them. Its callers see the same functions everywhere.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub use unix::*;

use std::net::SocketAddr;

/// Who besides its owner can read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exposure {
    /// Only the owner.
    Owner,
    /// The owner's group too.
    Group,
    /// Everyone on the machine.
    Everyone,
}

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Read the configuration and the log files again.
    Reload,
    /// Drain and end.
    End,
}

/// A process that holds a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl Holder {
    /// Whether it is a sitegate process.
    pub fn is_sitegate(&self) -> bool {
        self.name == "sitegate"
    }
}

/// Whether a socket that listens on `own` takes connections to `asked`, on the same port.
fn covers(own: SocketAddr, asked: SocketAddr) -> bool {
    let is_wide = own.ip().is_unspecified() || asked.ip().is_unspecified();
    own.port() == asked.port() && (is_wide || own.ip() == asked.ip())
}

/// The file system of a folder, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Space that is available to this process.
    pub left: u64,
    /// Total space.
    pub total: u64,
    /// Identifies the file system on this machine.
    pub device: u64,
}
