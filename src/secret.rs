//! Secrets on disk: written atomically, readable by their owner only, permissions checked when
//! read. Also passwords and their sources.
//!
//! Never logs or formats a secret.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::os::{self, FileOwner};
pub use crate::os::{Exposure, exposure, private_dir};

/// The source of a password, read each time it is needed. The configuration never holds a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the process's environment.
    Env(String),
}

impl std::fmt::Display for PasswordSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PasswordSource::File(path) => path.display().fmt(f),
            PasswordSource::Env(name) => write!(f, "the variable {name}"),
        }
    }
}

/// A password, wiped when dropped.
pub struct Password(Zeroizing<String>);

/// A longer line is not a password but another file.
const PASSWORD_BYTES_MAX: u64 = 4096;

impl Password {
    /// The empty password, for a PFX that was exported without one.
    pub fn empty() -> Self {
        Password(Zeroizing::default())
    }

    /// Reads a password, and reports who else can read its source.
    ///
    /// # Errors
    /// The system's error, or [`io::ErrorKind::InvalidData`] if the source is not one line of text.
    pub fn read(source: &PasswordSource) -> io::Result<(Self, Exposure)> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let (text, exposure) = match source {
            PasswordSource::File(path) => {
                let (bytes, exposure) = read_bounded(path, PASSWORD_BYTES_MAX)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| invalid("not UTF-8"))?;
                (Zeroizing::new(text.to_owned()), exposure)
            }
            PasswordSource::Env(name) => {
                let text = std::env::var(name).map_err(|_| invalid("not set, or not UTF-8"))?;
                (Zeroizing::new(text), Exposure::Owner)
            }
        };
        let line = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains(['\n', '\0']) {
            Err(invalid("more than one line"))
        } else {
            Ok((Password(Zeroizing::new(line.to_owned())), exposure))
        }
    }

    /// The password itself. Only for code that decrypts or logs in with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password([redacted])")
    }
}

/// The credential that sitegate sends to a backend (RFC 7617), wiped when dropped.
pub struct BasicCredential(Zeroizing<String>);

impl BasicCredential {
    /// Reads one line of the form `user:password`, and reports who else can read its source.
    ///
    /// # Errors
    /// As [`Password::read`], and [`io::ErrorKind::InvalidData`] if the line has no user name or
    /// has control characters (RFC 7617 §2).
    pub fn read(source: &PasswordSource) -> io::Result<(Self, Exposure)> {
        use base64::Engine;
        let (line, exposure) = Password::read(source)?;
        let named = line.reveal().split_once(':').is_some_and(|(user, _)| !user.is_empty());
        if !named || line.reveal().chars().any(char::is_control) {
            let why = "not one line with a user name, a colon and a password";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let engine = base64::engine::general_purpose::STANDARD;
        let coded = Zeroizing::new(engine.encode(line.reveal()));
        Ok((BasicCredential(Zeroizing::new(format!("Basic {}", &*coded))), exposure))
    }

    /// A credential that could not be read: a request that needs it is refused.
    pub fn unreadable() -> Self {
        BasicCredential(Zeroizing::default())
    }

    /// The value of the Authorization header, or `None` if the credential could not be read.
    pub fn field(&self) -> Option<&str> {
        Some(&**self.0).filter(|field| !field.is_empty())
    }
}

impl std::fmt::Debug for BasicCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BasicCredential([redacted])")
    }
}

/// Replaces `path` atomically by a file with these bytes, mode 0600: a reader sees the whole old or
/// the whole new file, and a crash leaves one of them.
///
/// # Errors
/// The file system's error; the old file is then unchanged.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes, Exposure::Owner)?.persist(path)?;
    sync_folder(path)
}

/// Like [`write_private`], but never replaces an existing file.
///
/// # Errors
/// As [`write_private`]; [`io::ErrorKind::AlreadyExists`] if the file exists.
pub fn write_new_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes, Exposure::Owner)?.persist_noclobber(path)?;
    sync_folder(path)
}

/// Like [`write_private`], for a file that belongs to that owner. The owner is set before
/// the rename: in a folder that the user owns, the name could point elsewhere a moment later.
///
/// # Errors
/// As [`write_private`]. The inner result says why the owner could not be changed.
pub fn write_private_for(
    path: &Path,
    bytes: &[u8],
    owner: FileOwner,
) -> io::Result<io::Result<()>> {
    let file = written(path, bytes, Exposure::Owner)?;
    let given = os::give(file.as_file(), owner);
    file.persist(path)?;
    sync_folder(path)?;
    Ok(given)
}

/// Like [`write_private`], for files that everyone may read: certificates and public keys.
///
/// # Errors
/// As [`write_private`].
pub fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    written(path, bytes, Exposure::Everyone)?.persist(path)?;
    sync_folder(path)
}

/// The beginning of the names of temporary files; the id of their process follows.
const TEMPORARY: &str = ".sitegate-";
/// How deep folders are searched for temporary files.
const DEPTH_MAX: usize = 4;

/// Removes the temporary files that processes have left which were killed while they wrote.
pub fn remove_unfinished(dir: &Path) {
    remove_within(dir, DEPTH_MAX);
}

fn remove_within(dir: &Path, depth: usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth > 0 {
                remove_within(&entry.path(), depth - 1);
            }
        } else if entry.file_name().to_str().is_some_and(is_unfinished) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a name is that of a temporary file whose process has ended. This process, which begins,
/// may have the id of one that has ended.
fn is_unfinished(name: &str) -> bool {
    let id = name.strip_prefix(TEMPORARY).and_then(|rest| rest.split_once('-'));
    let id = id.and_then(|(id, _)| id.parse::<u32>().ok());
    id.is_some_and(|id| id == std::process::id() || !os::exists(id))
}

/// A temporary file beside `path`, completely written and synced to disk.
fn written(path: &Path, bytes: &[u8], readers: Exposure) -> io::Result<tempfile::NamedTempFile> {
    let prefix = format!("{TEMPORARY}{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    let mut file = os::temporary_for(builder.prefix(&prefix), readers).tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    os::sync_folder(folder(path))
}

/// The folder of a path. A bare name has an empty parent, which means the current directory.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a regular file of at most `len_max` bytes, and reports who can read it.
///
/// A FIFO in the file's place does not block the reader.
///
/// # Errors
/// The file system's error, or [`io::ErrorKind::InvalidData`] if it is not a regular file or too
/// large.
pub fn read_bounded(path: &Path, len_max: u64) -> io::Result<(Zeroizing<Vec<u8>>, Exposure)> {
    use std::io::Read;
    let file = os::open_without_waiting(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let too_large =
        || io::Error::new(io::ErrorKind::InvalidData, format!("larger than {len_max} bytes"));
    if meta.len() > len_max {
        return Err(too_large());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(meta.len() as usize + 1));
    file.take(len_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > len_max {
        return Err(too_large());
    }
    Ok((bytes, exposure(&meta)))
}

/// Like [`read_bounded`], for a text that can mark its end: if its first line is `# begin`, its
/// last line must be `# end`.
///
/// # Errors
/// As [`read_bounded`], and [`io::ErrorKind::InvalidData`] if the text has `# begin` and no `#
/// end`.
pub fn read_whole(path: &Path, len_max: u64) -> io::Result<(Zeroizing<Vec<u8>>, Exposure)> {
    let (bytes, exposure) = read_bounded(path, len_max)?;
    let lines = || bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let begins = lines().next().is_some_and(|line| line == b"# begin");
    let ends = || lines().rfind(|line| !line.is_empty()).is_some_and(|line| line == b"# end");
    if begins && !ends() {
        let cut = "cut short: its first line is '# begin', and its last is not '# end'";
        return Err(io::Error::new(io::ErrorKind::InvalidData, cut));
    }
    Ok((bytes, exposure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_of_ended_processes_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let own = std::process::id();
        let parent = std::os::unix::process::parent_id();
        let ended = "4294967295";
        let of =
            |id: &dyn std::fmt::Display, at: &str| dir.path().join(format!("{at}.sitegate-{id}-x"));
        let stale = [of(&own, ""), of(&ended, "a/b/"), of(&ended, "")];
        let kept =
            [of(&parent, ""), dir.path().join("a/site.db"), dir.path().join(".sitegate-notes")];
        for path in stale.iter().chain(&kept) {
            fs::write(path, "half").unwrap();
        }
        remove_unfinished(dir.path());
        let exist = |paths: &[PathBuf]| paths.iter().map(|p| p.exists()).collect::<Vec<_>>();
        assert_eq!((exist(&stale), exist(&kept)), (vec![false; 3], vec![true; 3]));
    }

    #[test]
    fn a_private_file_is_replaced_whole_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"old").unwrap();
        write_private(&path, b"new").unwrap();
        let (bytes, exposure) = read_bounded(&path, 16).unwrap();
        assert_eq!((&bytes[..], exposure), (&b"new"[..], Exposure::Owner));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_password_is_one_line_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let read = |text: &str| {
            write_private(&path, text.as_bytes()).unwrap();
            Password::read(&PasswordSource::File(path.clone())).map(|(p, _)| p.reveal().to_owned())
        };
        for text in ["s3cret", "s3cret\n", "s3cret\r\n", "\u{feff}s3cret\n"] {
            assert_eq!(read(text).unwrap(), "s3cret", "{text:?}");
        }
        assert_eq!(read("  spaces count \n").unwrap(), "  spaces count ");
        assert_eq!(read("").unwrap(), "");
        for text in ["one\ntwo\n", "nul\0", &"x".repeat(5000)] {
            assert!(read(text).is_err(), "{text:?}");
        }
        write_private(&path, b"s3cret").unwrap();
        let (password, _) = Password::read(&PasswordSource::File(path)).unwrap();
        assert!(!format!("{password:?}").contains("s3cret"));
        assert!(Password::read(&PasswordSource::Env("NO_SUCH_VARIABLE_HERE".into())).is_err());
    }

    #[test]
    fn a_credential_has_a_user_name_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let source = PasswordSource::File(dir.path().join("credential"));
        let read = |text: &str| {
            write_private(&dir.path().join("credential"), text.as_bytes()).unwrap();
            BasicCredential::read(&source).map(|(credential, _)| credential)
        };
        let credential = read("Aladdin:open sesame\n").unwrap();
        assert_eq!(credential.field(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(format!("{credential:?}"), "BasicCredential([redacted])");
        assert!(read("gateway:").is_ok() && read("gateway:a:b").is_ok());
        for text in ["", "\n", "gateway", ":password", "a:b\tc", "a:b\nc:d"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert_eq!(BasicCredential::unreadable().field(), None);
    }

    #[test]
    fn what_is_too_large_or_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        fs::write(&large, [0; 17]).unwrap();
        assert!(read_bounded(&large, 16).is_err());
        assert!(read_bounded(dir.path(), 16).is_err());
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(read_bounded(&fifo, 16).is_err());
    }
}
