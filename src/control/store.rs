//! A folder of certificate files, read whole: certificate, key and roots, or why not.
//!
//! Reads and parses; whether the outcome may be served is judged elsewhere. Waits for no FIFO, and
//! takes nothing large.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use zeroize::Zeroizing;

use crate::cert::{Anchors, Credential, Fault, Source};
use crate::secret::{self, Exposure};
use crate::unfit::Unfit;

/// Larger than any chain, smaller than any mistake.
const LEN_MAX: u64 = 1024 * 1024;

/// Who may read a key that is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyMode {
    /// Its owner; its group with a warning.
    #[default]
    Private,
    /// Anyone: for volumes that cannot keep modes.
    Any,
}

/// Where a credential lies, and under which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The directory; it need not exist.
    pub path: PathBuf,
    /// The file with the certificate and the authorities above it.
    pub certificate: String,
    /// The file with the key; may be the certificate's.
    pub key: String,
    /// The file with the roots, if there is one; else the system's are meant.
    pub anchors: String,
    /// Who may read the key.
    pub key_mode: KeyMode,
}

impl Folder {
    /// A directory with `tls.crt`, `tls.key` and perhaps `ca.crt`, and a private key.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Folder {
            path: path.into(),
            certificate: "tls.crt".to_owned(),
            key: "tls.key".to_owned(),
            anchors: "ca.crt".to_owned(),
            key_mode: KeyMode::Private,
        }
    }
}

/// A credential as it lay on disk.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Chain and key, not judged yet.
    pub credential: Arc<Credential>,
    /// The roots beside it, if any.
    pub anchors: Option<Arc<Anchors>>,
    /// Whether the key is readable by its group, which is worth a warning.
    pub group_readable: bool,
}

/// A folder, and what was last made of its contents: nothing is parsed twice.
pub struct Store {
    folder: Folder,
    source: Source,
    provider: Arc<CryptoProvider>,
    seen: Option<(digest::Digest, Result<Loaded, Fault>)>,
}

impl Store {
    /// A folder to read credentials of that source from. Touches no file yet.
    pub fn new(folder: Folder, source: Source, provider: Arc<CryptoProvider>) -> Self {
        Store { folder, source, provider, seen: None }
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Read the folder as it is now.
    ///
    /// # Errors
    /// [`Unfit::Absent`] where there is nothing, [`Unfit::Unreadable`] with what the file system
    /// says, [`Unfit::KeyExposed`], or what parsing says.
    pub fn load(&mut self) -> Result<Loaded, Fault> {
        let files = Files::read(&self.folder)?;
        let digest = files.digest();
        match &self.seen {
            Some((seen, outcome)) if seen.as_ref() == digest.as_ref() => outcome.clone(),
            _ => {
                let outcome = self.parse(&files);
                self.seen = Some((digest, outcome.clone()));
                outcome
            }
        }
    }

    fn parse(&self, files: &Files) -> Result<Loaded, Fault> {
        let (certificate, certificate_exposure) =
            files.certificate.as_ref().ok_or_else(|| missing(&self.folder.certificate))?;
        let key = files.key.as_ref();
        let credential = Credential::parse(
            certificate,
            key.map(|(bytes, _)| bytes.as_slice()),
            self.source,
            &self.provider,
        )
        .map_err(|fault| match (fault.unfit, key) {
            (Unfit::Incomplete, None) => missing(&self.folder.key),
            _ => fault,
        })?;
        let exposure = key.map_or(*certificate_exposure, |(_, exposure)| *exposure);
        if exposure == Exposure::Everyone && self.folder.key_mode == KeyMode::Private {
            return Err(Fault::new(Unfit::KeyExposed, self.folder.key.clone()));
        }
        let anchors = match &files.anchors {
            // Issuers that have no root to give leave an empty file.
            Some((bytes, _)) => Some(Anchors::from_pem(bytes)?).filter(|roots| !roots.is_empty()),
            None => None,
        };
        Ok(Loaded {
            credential: Arc::new(credential),
            anchors: anchors.map(Arc::new),
            group_readable: exposure == Exposure::Group,
        })
    }
}

fn missing(file: &str) -> Fault {
    Fault::new(Unfit::Incomplete, format!("{file} is missing"))
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

type Read = Option<(Zeroizing<Vec<u8>>, Exposure)>;

/// The bytes of a folder's files, each `None` where there is no such file.
struct Files {
    certificate: Read,
    key: Read,
    anchors: Read,
}

impl Files {
    fn read(folder: &Folder) -> Result<Self, Fault> {
        let at = |name: &str| read(&folder.path.join(name));
        let files = Files {
            certificate: at(&folder.certificate)?,
            key: at(&folder.key)?,
            anchors: at(&folder.anchors)?,
        };
        match (&files.certificate, &files.key) {
            (None, None) => Err(Fault::new(Unfit::Absent, folder.path.display().to_string())),
            _ => Ok(files),
        }
    }

    /// What they hold, and who may read it: a changed mode is a change too.
    fn digest(&self) -> digest::Digest {
        let mut all = digest::Context::new(&digest::SHA256);
        for read in [&self.certificate, &self.key, &self.anchors] {
            match read {
                Some((bytes, exposure)) => {
                    all.update(&[1, *exposure as u8]);
                    all.update(&bytes.len().to_be_bytes());
                    all.update(bytes);
                }
                None => all.update(&[0]),
            }
        }
        all.finish()
    }
}

fn read(path: &Path) -> Result<Read, Fault> {
    match secret::read_bounded(path, LEN_MAX) {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::new(Unfit::Unreadable, format!("{}: {e}", path.display()))),
    }
}

#[cfg(test)]
mod tests;
