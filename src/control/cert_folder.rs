//! Reads a folder of certificate files: certificates, keys and roots, or the faults.
//!
//! Reads and parses; whether a credential may be served is decided elsewhere. Never blocks on a
//! FIFO, and reads no large file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use zeroize::Zeroizing;

use super::watch::absolute;
use crate::cert::{Anchors, Credential, CredentialFault, Source, pfx};
use crate::secret::{self, Exposure, Password, PasswordSource};
use crate::unfit::Unfit;

/// Larger than any certificate chain.
const LEN_MAX: u64 = 1024 * 1024;
/// The most PFX files in one folder: more are an archive, and none of them is opened.
pub const PFX_MAX: usize = 16;

/// Which permissions a key file may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyMode {
    /// Readable by its owner; by its group with a warning.
    #[default]
    Private,
    /// Any mode: for volumes that cannot keep modes.
    Any,
}

/// The location of a credential and its file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The directory; it need not exist.
    pub path: PathBuf,
    /// The file with the certificate and the CA certificates above it.
    pub certificate: String,
    /// The file with the key; may be the certificate's.
    pub key: String,
    /// The file with the roots, if there is one; otherwise those of the PFX, otherwise the
    /// system's.
    pub anchors: String,
    /// Whether the operator has named that file; it must exist then.
    pub anchors_named: bool,
    /// Whether clients process more of a chain than is processed here.
    pub process_more: bool,
    /// Which permissions the key may have.
    pub key_mode: KeyMode,
    /// The source of the password of the folder's PFX files; `None` means an empty password.
    pub password: Option<PasswordSource>,
}

impl Folder {
    /// A directory with `tls.crt`, `tls.key` and perhaps `ca.crt`, or a PFX, and a private key
    /// mode.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Folder {
            path: path.into(),
            certificate: "tls.crt".to_owned(),
            key: "tls.key".to_owned(),
            anchors: "ca.crt".to_owned(),
            anchors_named: false,
            process_more: false,
            key_mode: KeyMode::Private,
            password: None,
        }
    }

    /// Whether that absolute path is one of the directory's entries.
    pub fn holds(&self, path: &Path) -> bool {
        path.parent() == Some(&absolute(self.path.clone()))
    }

    /// Whether an entry of that name may be one of its files, or a component of the path to one.
    pub fn names(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        let own = [&self.certificate, &self.key, &self.anchors].map(Path::new).into_iter();
        let password = match &self.password {
            Some(PasswordSource::File(path)) => Some(path.as_path()),
            _ => None,
        };
        let is_one = |path: &Path| path.components().any(|part| part.as_os_str() == name);
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let kinds = ["pfx", "p12", "ocsp"];
        own.chain(password).any(is_one) || kinds.iter().any(|k| extension.eq_ignore_ascii_case(k))
    }

    /// The directories to watch: a file may have its own path outside the folder.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let named = [&self.certificate, &self.key, &self.anchors];
        let elsewhere: BTreeSet<PathBuf> = named
            .into_iter()
            .filter_map(|name| self.path.join(name).parent().map(Path::to_owned))
            .filter(|parent| *parent != self.path)
            .collect();
        let password = match &self.password {
            Some(PasswordSource::File(path)) => path.parent().map(PathBuf::from),
            _ => None,
        };
        std::iter::once(self.path.clone()).chain(elsewhere).chain(password)
    }
}

/// A credential as read from disk.
#[derive(Clone, Debug)]
pub struct LoadedFolder {
    /// Chain and key, not yet checked.
    pub credential: Arc<Credential>,
    /// The roots beside it, if any.
    pub anchors: Option<Arc<Anchors>>,
    /// The OCSP response beside it, unparsed; empty if it cannot be read.
    pub staple: Option<Arc<[u8]>>,
    /// Whether the key is readable by its group, which causes a warning.
    pub group_readable: bool,
}

/// One credential of a folder that may hold several, or its fault.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The file's name.
    pub file: String,
    /// The credential.
    pub found: Result<LoadedFolder, CredentialFault>,
}

/// A folder, and the last parsed contents: nothing is parsed twice.
pub struct CertFolder {
    folder: Folder,
    source: Source,
    provider: Arc<CryptoProvider>,
    seen: BTreeMap<String, (digest::Digest, Result<LoadedFolder, CredentialFault>)>,
}

impl CertFolder {
    /// A folder to read credentials of that source from. Reads no file yet.
    pub fn new(folder: Folder, source: Source, provider: Arc<CryptoProvider>) -> Self {
        CertFolder { folder, source, provider, seen: BTreeMap::new() }
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Reads the folder: the pair of certificate and key first, if there is one, then every PFX by
    /// name.
    ///
    /// # Errors
    /// [`Unfit::Absent`] if the folder holds no credential, [`Unfit::Unreadable`] with the file
    /// system's error for the folder. The fault of a single file is in its candidate.
    pub fn load(&mut self) -> Result<Vec<Candidate>, CredentialFault> {
        let mut names = pfx_names(&self.folder.path)?;
        let anchors = read(&self.folder.path.join(&self.folder.anchors));
        let anchors = match anchors {
            Ok(None) if self.folder.anchors_named => Err(missing(&self.folder.anchors)),
            anchors => anchors,
        };
        let mut seen = std::mem::take(&mut self.seen);
        let mut candidates = Vec::new();
        if let Some(pair) = self.pair(&anchors).transpose() {
            let file = self.folder.certificate.clone();
            candidates.push((file, pair));
        }
        if names.len() > PFX_MAX {
            let fault = CredentialFault::new(Unfit::Unreadable, format!("{} files", names.len()));
            candidates.push(("*.pfx".to_owned(), Err(fault)));
            names.clear();
        }
        let password = if names.is_empty() {
            Ok((Password::empty(), Exposure::Owner))
        } else {
            self.password()
        };
        for name in names {
            let parts = self.pfx(&name, &anchors, &password);
            candidates.push((name, parts));
        }
        if candidates.is_empty() {
            return Err(CredentialFault::new(
                Unfit::Absent,
                self.folder.path.display().to_string(),
            ));
        }
        Ok(candidates
            .into_iter()
            .map(|(file, parts)| {
                let found = parts.and_then(|parts| {
                    let digest = parts.digest();
                    let outcome = match seen.remove(&file) {
                        Some((seen, outcome)) if seen.as_ref() == digest.as_ref() => outcome,
                        _ => self.parse(&parts),
                    };
                    self.seen.insert(file.clone(), (digest, outcome.clone()));
                    outcome
                });
                Candidate { file, found }
            })
            .collect())
    }

    fn pair<'a>(
        &self,
        anchors: &'a Result<Read, CredentialFault>,
    ) -> Result<Option<FolderParts<'a>>, CredentialFault> {
        let at = |name: &str| read(&self.folder.path.join(name));
        let (certificate, key) = (at(&self.folder.certificate)?, at(&self.folder.key)?);
        if certificate.is_none() && key.is_none() {
            return Ok(None);
        }
        let certificate = certificate.ok_or_else(|| missing(&self.folder.certificate))?;
        let anchors = anchors.as_ref().map_err(Clone::clone)?;
        let staple = self.staple(&self.folder.certificate);
        Ok(Some(FolderParts { whole: certificate, form: FileForm::Pair { key }, anchors, staple }))
    }

    fn pfx<'a>(
        &self,
        name: &str,
        anchors: &'a Result<Read, CredentialFault>,
        password: &'a Result<(Password, Exposure), CredentialFault>,
    ) -> Result<FolderParts<'a>, CredentialFault> {
        let (password, exposure) = password.as_ref().map_err(Clone::clone)?;
        self.private(*exposure, "the password's file")?;
        let whole = read(&self.folder.path.join(name))?;
        let whole = whole.ok_or_else(|| missing(name))?;
        let anchors = anchors.as_ref().map_err(Clone::clone)?;
        let staple = self.staple(name);
        Ok(FolderParts { whole, form: FileForm::Pfx { password }, anchors, staple })
    }

    /// The OCSP response beside a certificate's file: `tls.ocsp` beside `tls.crt`. An unreadable
    /// one is not a fault of the certificate.
    fn staple(&self, beside: &str) -> Option<Arc<[u8]>> {
        match read(&self.folder.path.join(beside).with_extension("ocsp")) {
            Ok(found) => found.map(|(bytes, _)| bytes.as_slice().into()),
            Err(_) => Some(Arc::default()),
        }
    }

    fn password(&self) -> Result<(Password, Exposure), CredentialFault> {
        let Some(source) = &self.folder.password else {
            return Ok((Password::empty(), Exposure::Owner));
        };
        Password::read(source).map_err(|error| {
            let place = match source {
                PasswordSource::File(path) => path.display().to_string(),
                PasswordSource::Env(name) => format!("the variable {name}"),
            };
            CredentialFault::new(Unfit::PasswordUnreadable, format!("{place}: {error}"))
        })
    }

    fn private(&self, exposure: Exposure, what: &str) -> Result<(), CredentialFault> {
        if exposure == Exposure::Everyone && self.folder.key_mode == KeyMode::Private {
            Err(CredentialFault::new(Unfit::KeyExposed, what))
        } else {
            Ok(())
        }
    }

    fn parse(&self, parts: &FolderParts<'_>) -> Result<LoadedFolder, CredentialFault> {
        let (bytes, own_exposure) = &parts.whole;
        let (credential, own_anchors, exposure) = match &parts.form {
            FileForm::Pair { key } => {
                let key_bytes = key.as_ref().map(|(bytes, _)| bytes.as_slice());
                let parsed = Credential::parse(bytes, key_bytes, self.source, &self.provider);
                let credential = parsed.map_err(|fault| match (fault.unfit, key) {
                    (Unfit::Incomplete, None) => missing(&self.folder.key),
                    _ => fault,
                })?;
                let exposure = key.as_ref().map_or(*own_exposure, |(_, exposure)| *exposure);
                self.private(exposure, &self.folder.key)?;
                (credential, None, exposure)
            }
            FileForm::Pfx { password } => {
                self.private(*own_exposure, "the PFX")?;
                let opened = pfx::open(bytes, password.reveal(), self.source, &self.provider)?;
                (opened.credential, opened.anchors, *own_exposure)
            }
        };
        let anchors = match parts.anchors {
            // Issuers without a root write an empty file.
            Some((bytes, _)) => Some(Anchors::from_pem(bytes)?).filter(|roots| !roots.is_empty()),
            None => None,
        };
        Ok(LoadedFolder {
            credential: Arc::new(credential),
            anchors: anchors
                .or(own_anchors)
                .map(|anchors| Arc::new(anchors.processing_more(self.folder.process_more))),
            staple: parts.staple.clone(),
            group_readable: exposure == Exposure::Group,
        })
    }
}

fn missing(file: &str) -> CredentialFault {
    CredentialFault::new(Unfit::Incomplete, format!("{file} is missing"))
}

impl std::fmt::Debug for CertFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The names of the PFX files in a folder, in order. Names that begin with a dot are files that are
/// still being written.
pub fn pfx_names(folder: &Path) -> Result<Vec<String>, CredentialFault> {
    let unreadable = |error: io::Error| {
        CredentialFault::new(Unfit::Unreadable, format!("{}: {error}", folder.display()))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let Ok(name) = entry.map_err(unreadable)?.file_name().into_string() else { continue };
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        let is_pfx = |e: &str| ["pfx", "p12"].iter().any(|known| e.eq_ignore_ascii_case(known));
        if extension.is_some_and(is_pfx) && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

type Whole = (Zeroizing<Vec<u8>>, Exposure);
type Read = Option<Whole>;

/// The files of one credential.
struct FolderParts<'a> {
    whole: Whole,
    form: FileForm<'a>,
    anchors: &'a Read,
    staple: Option<Arc<[u8]>>,
}

enum FileForm<'a> {
    Pair { key: Read },
    Pfx { password: &'a Password },
}

impl FolderParts<'_> {
    /// The digest of the contents and of the file modes: a changed mode is a change too.
    fn digest(&self) -> digest::Digest {
        let mut all = digest::Context::new(&digest::SHA256);
        let mut add = |part: Option<(&[u8], Exposure)>| match part {
            Some((bytes, exposure)) => {
                all.update(&[1, exposure as u8]);
                all.update(&bytes.len().to_be_bytes());
                all.update(bytes);
            }
            None => all.update(&[0]),
        };
        add(Some(part(&self.whole)));
        match &self.form {
            FileForm::Pair { key } => add(key.as_ref().map(part)),
            FileForm::Pfx { password } => {
                add(Some((password.reveal().as_bytes(), Exposure::Owner)))
            }
        }
        add(self.anchors.as_ref().map(part));
        add(self.staple.as_deref().map(|bytes| (bytes, Exposure::Everyone)));
        all.finish()
    }
}

fn part((bytes, exposure): &Whole) -> (&[u8], Exposure) {
    (bytes.as_slice(), *exposure)
}

fn read(path: &Path) -> Result<Read, CredentialFault> {
    match secret::read_bounded(path, LEN_MAX) {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(CredentialFault::new(Unfit::Unreadable, format!("{}: {e}", path.display()))),
    }
}

#[cfg(test)]
mod tests;
