//! What can be wrong with the store, by who can mend it.
//!
//! Never holds a value that was to be written, nor the URL of a database.

use std::io;
use std::path::PathBuf;

/// Why the store did not do what it was asked to. Nothing of it was done then, except where the
/// connection was lost while a change was being confirmed: asking again is safe in either case.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refuses the folder or the file.
    #[error("{path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What it answers.
        cause: io::Error,
    },
    /// The text is no URL of a PostgreSQL database.
    #[error("the store's URL is not understood: it must be postgres://USER:PASSWORD@HOST/DATABASE")]
    Url,
    /// A later sitegate has been there, and this one does not know its tables.
    #[error(
        "the store was changed by a later sitegate (its step {0} is not known here): run that \
         version, or restore a copy from before it"
    )]
    Newer(i64),
    /// A step of the tables is not the one that this program knows.
    #[error("the store's tables cannot be brought up to date: {0}")]
    Tables(String),
    /// The database does not answer, or the connection to it is lost.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// Other writers did not let go in time.
    #[error("the store is busy: others have been writing for too long")]
    Busy,
    /// There is no room left.
    #[error("the store cannot grow: the disk is full")]
    Full,
    /// The file, its folder or the database is closed to writing.
    #[error("the store cannot be written: it is read-only here")]
    ReadOnly,
    /// The file is not, or no longer, a database.
    #[error("the store is damaged, or not a store: restore a copy ({0})")]
    Damaged(String),
    /// A value in the store is none of those that this program writes.
    #[error("the store holds what sitegate does not write: {0}")]
    Content(String),
    /// The database refuses for another reason: missing rights, most often.
    #[error("the database refuses: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether it may be over once the disk takes something again. SQLite cannot even open its log
    /// there, and says so in several ways.
    pub fn is_of_the_disk(&self) -> bool {
        match self {
            StoreError::Full | StoreError::ReadOnly | StoreError::Unavailable(_) => true,
            StoreError::File { cause, .. } => disk_takes_nothing(cause),
            _ => false,
        }
    }
}

/// Whether a file system refuses because it is full or closed to writing, which may be over later.
pub fn disk_takes_nothing(cause: &io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    matches!(cause.kind(), StorageFull | ReadOnlyFilesystem | PermissionDenied)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error;
        match error {
            Error::Database(cause) => of_database(&*cause),
            Error::Io(cause) => StoreError::Unavailable(cause.to_string()),
            Error::PoolTimedOut => StoreError::Unavailable("no connection in time".into()),
            Error::PoolClosed | Error::WorkerCrashed => {
                StoreError::Unavailable("the store has been closed".into())
            }
            Error::Tls(cause) => StoreError::Unavailable(format!("TLS: {cause}")),
            Error::Protocol(cause) => StoreError::Unavailable(cause),
            // Its text may quote the URL.
            Error::Configuration(_) => StoreError::Url,
            Error::ColumnDecode { index, source } => {
                StoreError::Content(format!("column {index}: {source}"))
            }
            Error::Decode(cause) => StoreError::Content(cause.to_string()),
            other => StoreError::Refused(other.to_string()),
        }
    }
}

fn of_database(cause: &dyn sqlx::error::DatabaseError) -> StoreError {
    let said = cause.message().to_owned();
    let code = cause.code().unwrap_or_default();
    // SQLite's codes are numbers with the kind in the lowest byte (sqlite.org/rescode.html),
    // PostgreSQL's have five characters with the class in the first two.
    if code.len() == 5 {
        return match code.get(..2).unwrap_or_default() {
            "08" | "57" => StoreError::Unavailable(said),
            "53" if code == "53100" => StoreError::Full,
            "53" => StoreError::Unavailable(said),
            "25" => StoreError::ReadOnly,
            "40" | "55" => StoreError::Busy,
            "XX" => StoreError::Damaged(said),
            _ => StoreError::Refused(said),
        };
    }
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => StoreError::Busy,
        Ok(8) => StoreError::ReadOnly,
        Ok(10 | 14) => StoreError::Unavailable(said),
        Ok(13) => StoreError::Full,
        Ok(11 | 26) => StoreError::Damaged(said),
        _ => StoreError::Refused(said),
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::VersionMissing(step) => StoreError::Newer(step),
            MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => cause.into(),
            other => StoreError::Tables(other.to_string()),
        }
    }
}
