//! What can be wrong with the store, by who can mend it.
//!
//! Never holds a value that was to be written, nor the URL of a database.

use std::io;
use std::path::PathBuf;

use super::StoreFault;

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
    /// What the database server answers, or that it does not.
    #[error("{}: {said}", clause(*.fault))]
    Server {
        /// What that means.
        fault: StoreFault,
        /// In its own words.
        said: String,
    },
    /// The store's file cannot be opened or read.
    #[error("the store's file cannot be used: {0}")]
    Unavailable(String),
    /// Somebody has let go of it.
    #[error("the store has been closed")]
    Closed,
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
    /// What keeps the store from working.
    pub fn fault(&self) -> StoreFault {
        match self {
            StoreError::Server { fault, .. } => *fault,
            StoreError::File { .. } | StoreError::Unavailable(_) => StoreFault::File,
            StoreError::Closed => StoreFault::Closed,
            StoreError::Url => StoreFault::Url,
            StoreError::Newer(_) => StoreFault::Newer,
            StoreError::Tables(_) => StoreFault::Tables,
            StoreError::Busy => StoreFault::Busy,
            StoreError::Full => StoreFault::Full,
            StoreError::ReadOnly => StoreFault::ReadOnly,
            StoreError::Damaged(_) => StoreFault::Damaged,
            StoreError::Content(_) => StoreFault::Content,
            StoreError::Refused(_) => StoreFault::Refused,
        }
    }

    /// The error and how to mend it, for whoever looks after the store.
    pub fn advice(&self) -> String {
        let fault = self.fault();
        format!("{self} ({}). {}", fault.code(), fault.hint())
    }

    /// What the database says, without what that means.
    pub(super) fn said(&self) -> String {
        match self {
            StoreError::Server { said, .. } => said.clone(),
            other => other.to_string(),
        }
    }

    /// Whether it may be over once the disk takes something again. SQLite cannot even open its log
    /// there, and says so in several ways.
    pub fn is_of_the_disk(&self) -> bool {
        match self {
            StoreError::Full | StoreError::ReadOnly | StoreError::Unavailable(_) => true,
            StoreError::Server { fault: StoreFault::PoolExhausted, .. } => true,
            StoreError::File { cause, .. } => disk_takes_nothing(cause),
            _ => false,
        }
    }
}

/// A fault's title within a sentence.
fn clause(fault: StoreFault) -> String {
    let title = fault.title().trim_end_matches('.');
    let (first, rest) = title.split_at_checked(1).unwrap_or_default();
    format!("{}{rest}", first.to_ascii_lowercase())
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
            Error::Io(cause) => server(StoreFault::Unreachable, cause.to_string()),
            Error::PoolTimedOut => server(StoreFault::PoolExhausted, "no connection in time"),
            Error::PoolClosed | Error::WorkerCrashed => StoreError::Closed,
            Error::Tls(cause) => server(StoreFault::Tls, cause.to_string()),
            // What is not PostgreSQL, or a connection that ended in the middle of an answer.
            Error::Protocol(cause) => server(StoreFault::Unreachable, cause),
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

fn server(fault: StoreFault, said: impl Into<String>) -> StoreError {
    StoreError::Server { fault, said: said.into() }
}

fn of_database(cause: &dyn sqlx::error::DatabaseError) -> StoreError {
    let said = cause.message().to_owned();
    let code = cause.code().unwrap_or_default();
    // SQLite's codes are numbers with the kind in the lowest byte (sqlite.org/rescode.html),
    // PostgreSQL's have five characters.
    if code.len() == 5 {
        return server(StoreFault::of_sqlstate(&code), said);
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
