//! Why a process could not start: what the operator can mend, by where it is.

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
        /// What the system answers.
        cause: std::io::Error,
    },
    /// Something in the state or log directory.
    #[error("{path}: {cause}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system answers.
        cause: std::io::Error,
    },
    /// The state directory is somebody else's.
    #[error(transparent)]
    State(#[from] crate::site::StateError),
    /// The state directory has not the root that the configuration names.
    #[error(transparent)]
    Roots(#[from] crate::site::RootsError),
    /// The system gives no thread, runtime or signal.
    #[error("the system refuses: {0}")]
    System(std::io::Error),
    /// A defect of sitegate's own.
    #[error("{0}")]
    Defect(String),
}

// By hand: the cause is in the message, and would be told twice as its source.
impl From<std::io::Error> for StartError {
    fn from(cause: std::io::Error) -> Self {
        StartError::System(cause)
    }
}
