//! Why the site has no token key.

use std::io;
use std::path::PathBuf;

use crate::token::MintError;

/// Why the site has no token key.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// The file system failed.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
    /// Others can read the key.
    #[error("{path}: the token key is readable by others; chmod 600 it and make a new one")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The key is invalid.
    #[error("{path}: {cause}")]
    Key {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: MintError,
    },
    /// The key does not exist.
    #[error("{}: there is no token key: the first start makes it", .path.display())]
    NotMade {
        /// Its folder.
        path: PathBuf,
    },
    /// The certificate could not be created.
    #[error("the token key's certificate could not be made: {0}")]
    Certificate(String),
}
