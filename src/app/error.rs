//! Errors at startup, by the place where the operator can fix them.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error("{what} cannot listen on {address}: {cause}")]
    Listen {
        /// A site system or a section.
        what: String,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file in the state or log directory failed.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The state directory belongs to another process or site.
    #[error(transparent)]
    State(#[from] crate::site::StateError),
    /// The state directory lacks the root that the configuration names.
    #[error(transparent)]
    Roots(#[from] crate::site::RootsError),
    /// The system refuses a thread, runtime or signal.
    #[error("the system refuses: {0}")]
    System(std::io::Error),
    /// A bug in sitegate.
    #[error("{0}")]
    Defect(String),
}

// Implemented by hand: the cause is in the message, and a `#[from]` source would repeat it.
impl From<std::io::Error> for StartError {
    fn from(cause: std::io::Error) -> Self {
        StartError::System(cause)
    }
}
