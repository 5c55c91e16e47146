//! The authority's folder on disk: pairs of certificate and key, and the lock under which what is
//! in a folder of the state is made.
//!
//! A pair is written key first, so that a certificate without its key never stands for a cut.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cert::Fault;
use crate::cert::issuer::Pair;
use crate::secret::{self, Exposure};
use crate::unfit::Unfit;

/// Larger than any chain of ours.
const LEN_MAX: u64 = 256 * 1024;

/// The file that is locked.
pub(super) const LOCK: &str = ".lock";

/// One pair's two paths.
#[derive(Debug)]
pub(super) struct Place {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What lies at a place.
pub(super) enum Held {
    Nothing,
    Both(Pair),
    KeyOnly(Zeroizing<String>),
    CertificateOnly,
}

impl Place {
    pub fn new(dir: &Path, name: &str) -> Self {
        Place { certificate: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) }
    }

    /// Read what is there.
    ///
    /// # Errors
    /// [`Unfit::NotIssued`] with the path: unreadable, no text, or a key that everyone can read.
    pub fn read(&self) -> Result<Held, Fault> {
        let certificate = read(&self.certificate)?.map(|(text, _)| text);
        let key = match read(&self.key)? {
            Some((_, Exposure::Everyone)) => {
                let told = "is readable by everyone: chmod 600, and make it anew if strangers \
                            had access";
                return Err(trouble(&self.key, told));
            }
            other => other.map(|(text, _)| text),
        };
        Ok(match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Held::Both(Pair { certificate: certificate.to_string(), key })
            }
            (None, Some(key)) => Held::KeyOnly(key),
            (Some(_), None) => Held::CertificateOnly,
            (None, None) => Held::Nothing,
        })
    }

    pub fn write(&self, pair: &Pair) -> Result<(), Fault> {
        secret::write_private(&self.key, pair.key.as_bytes()).map_err(|e| trouble(&self.key, e))?;
        secret::write_public(&self.certificate, pair.certificate.as_bytes())
            .map_err(|e| trouble(&self.certificate, e))
    }
}

fn read(path: &Path) -> Result<Option<(Zeroizing<String>, Exposure)>, Fault> {
    let (bytes, exposure) = match secret::read_bounded(path, LEN_MAX) {
        Ok(read) => read,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(trouble(path, e)),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| trouble(path, "is not PEM"))?;
    Ok(Some((Zeroizing::new(text.to_owned()), exposure)))
}

/// Make the folder if need be, closed to others.
pub(super) fn make_private(dir: &Path) -> Result<(), Fault> {
    secret::private_dir(dir).map_err(|e| trouble(dir, e))?;
    // On some volumes modes cannot be set; each key has its own mode besides. What is right is left
    // alone: setting it is an event to whoever watches, and may make them do this again.
    if fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o777 != 0o700) {
        let _ = fs::set_permissions(dir, Permissions::from_mode(0o700));
    }
    Ok(())
}

/// Take a folder's lock; other processes wait until the file is dropped.
pub(super) fn lock(dir: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join(LOCK))?;
    file.lock()?;
    Ok(file)
}

pub(super) fn trouble(path: &Path, why: impl std::fmt::Display) -> Fault {
    Fault::new(Unfit::NotIssued, format!("{}: {why}", path.display()))
}
