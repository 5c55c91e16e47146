//! The key that signs bundles: made at first, kept beside the authority's, and known to gateways by
//! the bundle before.
//!
//! The private key never leaves its file and this process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use super::files::{LOCK, lock};
use crate::cert::issuer;
use crate::secret::{Exposure, private_dir, read_bounded, write_private};
use crate::token::{MintError, SignerKind, TokenSigner};

const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no key to sign bundles with.
#[derive(Debug, thiserror::Error)]
pub enum BundleKeyError {
    /// The file system refuses.
    #[error("{path}: {cause}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What it answers.
        cause: io::Error,
    },
    /// Others may read it.
    #[error("{0}: the key that signs bundles is readable by others; chmod 600 it")]
    Exposed(PathBuf),
    /// It is none.
    #[error("{path}: {cause}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: MintError,
    },
}

/// The keys of a moment.
pub struct Signing {
    current: TokenSigner,
    next: Option<TokenSigner>,
}

impl Signing {
    /// The one that signs.
    pub fn current(&self) -> &TokenSigner {
        &self.current
    }

    /// Those that gateways shall take the next bundle from, as JWKs.
    pub fn public(&self) -> Vec<Value> {
        std::iter::once(&self.current).chain(&self.next).map(TokenSigner::jwk).collect()
    }
}

/// The keys that sign bundles, in a state directory.
#[derive(Clone, Debug)]
pub struct BundleSigners {
    dir: PathBuf,
}

impl BundleSigners {
    /// Those of a state directory. Touches no file yet.
    pub fn new(state: &Path) -> Self {
        BundleSigners { dir: state.join("authority") }
    }

    /// The keys as they are now; the first is made if there is none.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn load(&self) -> Result<Arc<Signing>, BundleKeyError> {
        let file = |name: &str| self.dir.join(name);
        let (path, next) = (file("bundle.key"), file("bundle.next.key"));
        if read(&path)?.is_none() {
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |cause| BundleKeyError::File { path, cause }
            };
            private_dir(&self.dir).map_err(failed(&self.dir))?;
            let _lock = lock(&self.dir).map_err(failed(&file(LOCK)))?;
            if read(&path)?.is_none() {
                let made = |cause| BundleKeyError::Key { path: path.clone(), cause };
                let der = TokenSigner::generate(SignerKind::P256).map_err(made)?;
                let pem = Zeroizing::new(issuer::pem("PRIVATE KEY", &der));
                write_private(&path, pem.as_bytes()).map_err(failed(&path))?;
            }
        }
        let gone = || BundleKeyError::File {
            path: path.clone(),
            cause: io::Error::from(io::ErrorKind::NotFound),
        };
        Ok(Arc::new(Signing { current: read(&path)?.ok_or_else(gone)?, next: read(&next)? }))
    }
}

fn read(path: &Path) -> Result<Option<TokenSigner>, BundleKeyError> {
    let (pem, exposure) = match read_bounded(path, FILE_BYTES_MAX) {
        Ok(found) => found,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(BundleKeyError::File { path: path.to_owned(), cause }),
    };
    if exposure != Exposure::Owner {
        return Err(BundleKeyError::Exposed(path.to_owned()));
    }
    let signer = TokenSigner::from_pem(&pem, None);
    signer.map(Some).map_err(|cause| BundleKeyError::Key { path: path.to_owned(), cause })
}
