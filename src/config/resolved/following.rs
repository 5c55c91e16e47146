//! The site server that a gateway without its own CA follows, and the files of the received data.

use std::path::{Path, PathBuf};

use crate::secret::PasswordSource;

/// `[site_server]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// The name of this gateway.
    pub name: String,
    /// The source of the join token, until it has been used.
    pub join: PasswordSource,
    /// Whether requests with tokens are denied once the last bundle has expired.
    pub deny_when_stale: bool,
}

impl Following {
    /// The file with a certificate that the site server has issued, and its key.
    pub const CERTIFICATE_FILE: &str = "tls.pem";

    /// The watched folder of the data from the site server.
    pub fn folder(state: &Path) -> PathBuf {
        state.join("site-server")
    }

    /// The keys of the site's tokens, as last received.
    pub fn token_keys(state: &Path) -> PathBuf {
        Following::folder(state).join("token-keys.json")
    }

    /// The folder of the certificate that the site server has issued for a site system.
    pub fn certificate(state: &Path, site_system: &str) -> PathBuf {
        Following::folder(state).join("certificates").join(site_system)
    }
}
