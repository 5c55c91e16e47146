//! The authority's files: pairs of certificate and key, and the lock of a state folder.
//!
//! A pair is written key first, so that a certificate without a key is never the result of a crash.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cert::CredentialFault;
use crate::cert::issuer::Pair;
use crate::os;
use crate::secret::{self, Exposure};
use crate::unfit::Unfit;

/// Larger than any chain of the site.
const LEN_MAX: u64 = 256 * 1024;

/// The file that is locked.
pub(super) const LOCK: &str = ".lock";

/// The two paths of a pair.
#[derive(Debug)]
pub(super) struct KeyPlace {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The content of a place.
pub(super) enum KeyFiles {
    Nothing,
    Both(Pair),
    KeyOnly(Zeroizing<String>),
    CertificateOnly,
}

impl KeyPlace {
    pub fn new(dir: &Path, name: &str) -> Self {
        KeyPlace {
            certificate: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
        }
    }

    /// Reads the pair.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] with the path: unreadable, not text, or a key that everyone can read.
    pub fn read(&self) -> Result<KeyFiles, CredentialFault> {
        let certificate = read(&self.certificate)?.map(|(text, _)| text);
        let key = match read(&self.key)? {
            Some((_, Exposure::Everyone)) => {
                let told = "is readable by every user: chmod 600, and replace it if other people \
                            had access";
                return Err(trouble(&self.key, told));
            }
            other => other.map(|(text, _)| text),
        };
        Ok(match (certificate, key) {
            (Some(certificate), Some(key)) => {
                KeyFiles::Both(Pair { certificate: certificate.to_string(), key })
            }
            (None, Some(key)) => KeyFiles::KeyOnly(key),
            (Some(_), None) => KeyFiles::CertificateOnly,
            (None, None) => KeyFiles::Nothing,
        })
    }

    pub fn write(&self, pair: &Pair) -> Result<(), CredentialFault> {
        secret::write_private(&self.key, pair.key.as_bytes()).map_err(|e| trouble(&self.key, e))?;
        secret::write_public(&self.certificate, pair.certificate.as_bytes())
            .map_err(|e| trouble(&self.certificate, e))
    }
}

fn read(path: &Path) -> Result<Option<(Zeroizing<String>, Exposure)>, CredentialFault> {
    let (bytes, exposure) = match secret::read_bounded(path, LEN_MAX) {
        Ok(read) => read,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(trouble(path, e)),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| trouble(path, "is not PEM"))?;
    Ok(Some((Zeroizing::new(text.to_owned()), exposure)))
}

/// Creates the folder if needed, accessible only to its owner.
pub(super) fn make_private(dir: &Path) -> Result<(), CredentialFault> {
    secret::private_dir(dir).map_err(|e| trouble(dir, e))?;
    // Some volumes do not support modes; each key also has its own mode.
    os::make_private(dir);
    Ok(())
}

/// Takes a folder's lock; other processes wait until the file is dropped.
pub(super) fn lock(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let file = os::open_for(&mut options, Exposure::Owner).open(dir.join(LOCK))?;
    file.lock()?;
    Ok(file)
}

pub(super) fn trouble(path: &Path, why: impl std::fmt::Display) -> CredentialFault {
    CredentialFault::new(Unfit::NotIssued, format!("{}: {why}", path.display()))
}
