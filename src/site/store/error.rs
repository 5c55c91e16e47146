//! Errors of the store, by their remedy.
//!
//! Never contains a stored value or the URL of a database.

use std::io;
use std::path::PathBuf;

use super::StoreFault;

/// Why a store operation failed. It had no effect, except if the connection was lost during a
/// commit; a retry is safe in either case.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system failed for the folder or the file.
    #[error("{path}: {cause}")]
    File {
        /// The path.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
    /// The text is not a URL of a PostgreSQL database.
    #[error("the store's URL is not valid: it must be postgres://USER:PASSWORD@HOST/DATABASE")]
    Url,
    /// A later sitegate has migrated the tables, and this one does not know them.
    #[error(
        "the store was changed by a later version of sitegate (schema step {0} is unknown): run \
         that version, or restore a copy from before it"
    )]
    Newer(i64),
    /// A migration differs from the one that this program knows.
    #[error("the store's tables cannot be brought up to date: {0}")]
    Tables(String),
    /// The database server returned an error, or did not answer.
    #[error("{}: {said}", clause(*.fault))]
    Server {
        /// The fault.
        fault: StoreFault,
        /// The server's message.
        said: String,
    },
    /// The store's file cannot be opened or read.
    #[error("the store's file cannot be used: {0}")]
    Unavailable(String),
    /// The store has been closed.
    #[error("the store has been closed")]
    Closed,
    /// Other writers held the lock for too long.
    #[error("the store is busy: other processes have been writing for too long")]
    Busy,
    /// The disk is full.
    #[error("the store cannot grow: the disk is full")]
    Full,
    /// The file, its folder or the database is read-only.
    #[error("the store cannot be written: it is read-only here")]
    ReadOnly,
    /// The file is not, or no longer, a database.
    #[error("the store is damaged, or not a store: restore a copy ({0})")]
    Damaged(String),
    /// The store has a value that this program does not write.
    #[error("the store has unexpected data: {0}")]
    Content(String),
    /// Another error of the database, most often missing privileges.
    #[error("the database refuses a statement: {0}")]
    Refused(String),
}

impl StoreError {
    /// The kind of fault.
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

    /// The error with its remedy, for the operator.
    pub fn advice(&self) -> String {
        let fault = self.fault();
        format!("{self} ({}). {}", fault.code(), fault.hint())
    }

    /// The database's message.
    pub(super) fn said(&self) -> String {
        match self {
            StoreError::Server { said, .. } => said.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the error may pass when the disk is writable again. SQLite cannot even open its log
    /// on a full or read-only disk, and reports this in several ways.
    pub fn is_of_the_disk(&self) -> bool {
        match self {
            StoreError::Full | StoreError::ReadOnly | StoreError::Unavailable(_) => true,
            StoreError::Server { fault: StoreFault::PoolExhausted, .. } => true,
            StoreError::File { cause, .. } => disk_takes_nothing(cause),
            _ => false,
        }
    }
}

/// A fault's title, for use within a sentence.
fn clause(fault: StoreFault) -> String {
    let title = fault.title().trim_end_matches('.');
    let (first, rest) = title.split_at_checked(1).unwrap_or_default();
    format!("{}{rest}", first.to_ascii_lowercase())
}

/// Whether a file system error means a full or read-only disk, which may pass.
fn disk_takes_nothing(cause: &io::Error) -> bool {
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
            // Not PostgreSQL, or a connection that ended in the middle of a response.
            Error::Protocol(cause) => server(StoreFault::Unreachable, cause),
            // The text may contain the URL.
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
    // SQLite's codes are numbers with the primary code in the lowest byte
    // (sqlite.org/rescode.html), PostgreSQL's have five characters.
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
