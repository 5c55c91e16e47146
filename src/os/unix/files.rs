//! Files: who may read them, whose they are, and which file it is.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, OFlags, access};

use crate::os::Exposure;

impl Exposure {
    /// The mode of a file that these may read and its owner may write. A stricter umask applies.
    const fn mode(self) -> u32 {
        match self {
            Exposure::Owner => 0o600,
            Exposure::Group => 0o640,
            Exposure::Everyone => 0o644,
        }
    }
}

/// Who can read a file, by its mode bits.
pub fn exposure(meta: &Metadata) -> Exposure {
    match meta.mode() {
        m if m & 0o007 != 0 => Exposure::Everyone,
        m if m & 0o070 != 0 => Exposure::Group,
        _ => Exposure::Owner,
    }
}

/// Sets who may read a file that these options create.
pub fn open_for(options: &mut OpenOptions, readers: Exposure) -> &mut OpenOptions {
    options.mode(readers.mode())
}

/// Sets who may read a temporary file that this builder creates.
pub fn temporary_for<'b, 'p, 's>(
    builder: &'b mut tempfile::Builder<'p, 's>,
    readers: Exposure,
) -> &'b mut tempfile::Builder<'p, 's> {
    builder.permissions(Permissions::from_mode(readers.mode()))
}

/// Lets only the owner read and write a file. Some volumes do not support modes.
///
/// # Errors
/// The system's error.
pub fn restrict(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(Exposure::Owner.mode()))
}

/// Creates a directory and its parents, accessible to their owner only.
///
/// # Errors
/// The file system's error.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Lets only the owner use an existing directory. A correct mode is not set again: that would be an
/// event to a file watcher.
pub fn make_private(dir: &Path) {
    if fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o777 != 0o700) {
        let _ = fs::set_permissions(dir, Permissions::from_mode(0o700));
    }
}

/// Opens a file to read. A FIFO in its place does not block (O_NONBLOCK).
///
/// # Errors
/// The file system's error.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

/// Writes the entries of a folder to the disk, so that a rename in it survives a power failure.
///
/// # Errors
/// The file system's error.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Why this process cannot write to a folder; `None` if it can.
pub fn unwritable(folder: &Path) -> Option<io::Error> {
    access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).err().map(Into::into)
}

/// Reads a part of a file without moving its position.
///
/// # Errors
/// The file system's error, or [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
pub fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    FileExt::read_exact_at(file, bytes, at)
}

/// The user and group of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOwner {
    user: u32,
    group: u32,
}

impl FileOwner {
    /// The user's name or number, for display.
    pub fn user(self) -> String {
        self.user.to_string()
    }
}

/// Whose a file is.
///
/// # Errors
/// The file system's error.
pub fn owner(path: &Path) -> io::Result<FileOwner> {
    path.metadata().map(|found| FileOwner { user: found.uid(), group: found.gid() })
}

/// Gives an open file to an owner that does not have it yet.
///
/// # Errors
/// The system's error: usually only root may do this.
pub fn give(file: &File, to: FileOwner) -> io::Result<()> {
    match file.metadata() {
        Ok(own) if (own.uid(), own.gid()) == (to.user, to.group) => Ok(()),
        _ => std::os::unix::fs::fchown(file, Some(to.user), Some(to.group)),
    }
}

/// Identifies a file or folder on this machine: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity(u64, u64);

/// The identity of an open file, or of the file at the end of a path.
pub fn identity(meta: &Metadata) -> FileIdentity {
    FileIdentity(meta.dev(), meta.ino())
}

/// The metadata that a write or a replacement changes: identity, size, and the times of the last
/// change of the contents (mtime) and of the inode (ctime).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp {
    identity: FileIdentity,
    bytes: u64,
    changed: (i64, i64),
    touched: Option<(i64, i64)>,
}

impl FileStamp {
    /// The stamp of an open file, or of the file at the end of a path.
    pub fn of(found: &Metadata) -> Self {
        FileStamp {
            identity: identity(found),
            bytes: found.len(),
            changed: (found.mtime(), found.mtime_nsec()),
            touched: Some((found.ctime(), found.ctime_nsec())),
        }
    }

    /// Which file it is.
    pub fn identity(self) -> FileIdentity {
        self.identity
    }

    /// Without the time of the inode, which a change of mode or owner moves too.
    pub fn of_contents(self) -> Self {
        FileStamp { touched: None, ..self }
    }
}

/// The stamp of a path's target.
pub fn stamp(path: &Path) -> Option<FileStamp> {
    fs::metadata(path).ok().map(|found| FileStamp::of(&found))
}

/// Whether a write through another name may change it: a link, or a file with several names.
pub fn has_other_names(found: &Metadata) -> bool {
    found.is_symlink() || (found.is_file() && found.nlink() > 1)
}
