//! How secrets lie on disk: written whole, readable by their owner alone, and judged when read.
//!
//! Never logs or formats what it handles.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Who besides its owner may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exposure {
    /// The owner alone.
    Owner,
    /// The owner's group too.
    Group,
    /// Everyone on the machine.
    Everyone,
}

/// Read the mode bits of a file as who may read it.
pub fn exposure(meta: &fs::Metadata) -> Exposure {
    match meta.mode() {
        m if m & 0o007 != 0 => Exposure::Everyone,
        m if m & 0o070 != 0 => Exposure::Group,
        _ => Exposure::Owner,
    }
}

/// Replace `path` by a file with these bytes, mode 0600, so that a reader sees the old or the new
/// whole, and a crash leaves one of them.
///
/// # Errors
/// Whatever the file system answers; the old file is then still there.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, bytes, 0o600)
}

/// As [`write_private`], for what everyone may read: certificates and public keys.
///
/// # Errors
/// As [`write_private`].
pub fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, bytes, 0o644)
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".sitegate-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}

/// Make a directory, and those above it, that its owner alone may enter.
///
/// # Errors
/// Whatever the file system answers.
pub fn private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The bytes of a regular file of at most `len_max` bytes, and who may read it.
///
/// Opens without waiting, so that a FIFO in a file's place cannot hold the reader.
///
/// # Errors
/// What the file system answers, or [`io::ErrorKind::InvalidData`] for what is not a regular file
/// or too large.
pub fn read_bounded(path: &Path, len_max: u64) -> io::Result<(Zeroizing<Vec<u8>>, Exposure)> {
    use std::io::Read;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
