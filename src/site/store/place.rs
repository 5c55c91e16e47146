//! Opens the store at its place, an SQLite file or a PostgreSQL database.
//!
//! Never shows a database's URL: it contains a password.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use zeroize::Zeroizing;

use super::StoreError;
use super::db::{Db, Pools};
use super::postgres::{PostgresServer, connect as connect_to};
use crate::os::{self, Exposure};
use crate::secret::private_dir;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The interval of attempts while a server may be starting.
const CONNECT_AGAIN: Duration = Duration::from_millis(100);
/// The timeout for a connection to a file, and for another process that writes.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The timeout for another process that migrates the tables.
const MIGRATION_WAIT_MAX: Duration = Duration::from_secs(60);
const READERS_MAX: u32 = 4;
const PROBE_BYTES: usize = 64 * 1024;

/// The place of a store.
#[derive(Clone, Debug)]
pub enum StorePlace {
    /// A file. It and its folder are created if needed, accessible only to their owner.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(PostgresUrl),
}

impl StorePlace {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            StorePlace::Sqlite(_) => "sqlite",
            StorePlace::Postgres(_) => "postgres",
        }
    }
}

/// The URL of a PostgreSQL database, `postgres://USER:PASSWORD@HOST/DATABASE`. Never shown.
#[derive(Clone)]
pub struct PostgresUrl(Zeroizing<String>);

impl PostgresUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`StoreError::Url`] if it is not one.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let known = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        if !known || PgConnectOptions::from_str(text).is_err() {
            return Err(StoreError::Url);
        }
        Ok(PostgresUrl(Zeroizing::new(text.to_owned())))
    }

    fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = PgConnectOptions::from_str(&self.0).map_err(|_| StoreError::Url)?;
        Ok(options.application_name("sitegate").disable_statement_logging())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl([redacted])")
    }
}

/// How to make a connection outside the pools.
#[derive(Clone)]
pub(super) enum OwnPlace {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
    /// None now: holders close theirs.
    Nowhere,
}

impl fmt::Debug for OwnPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options contain the password.
        f.write_str(match self {
            OwnPlace::Sqlite(_) => "Own::Sqlite",
            OwnPlace::Postgres(_) => "Own::Postgres",
            OwnPlace::Nowhere => "Own::Nowhere",
        })
    }
}

/// Connects, and migrates the tables. `wait_max` is how long to wait for a server that may be
/// starting.
pub(super) async fn connect(
    place: &StorePlace,
    wait_max: Duration,
) -> Result<(Db, OwnPlace), StoreError> {
    match place {
        StorePlace::Sqlite(path) => sqlite(path).await,
        StorePlace::Postgres(url) => postgres(url, wait_max).await,
    }
}

async fn sqlite(path: &Path) -> Result<(Db, OwnPlace), StoreError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let fault = |cause| StoreError::File { path: path.to_owned(), cause };
    private_dir(dir).map_err(fault)?;
    // SQLite gives its other files the mode of this one.
    created(path).map_err(fault)?;
    // Some volumes do not support modes.
    let _ = os::restrict(path);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(WAIT_MAX)
        .disable_statement_logging();
    // FULL: with WAL and a lower level, committed changes can be lost in a power failure.
    let writing = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // In effect for a new file: see docs/store.md.
        .auto_vacuum(SqliteAutoVacuum::Incremental);
    let reading = options.pragma("query_only", "ON");
    let _lock = lock(&path.with_extension("lock")).await?;
    let write = sqlite_pool(1).connect_with(writing).await?;
    SQLITE.run(&write).await?;
    let read = sqlite_pool(READERS_MAX).connect_lazy_with(reading.clone());
    Ok((Db::new(Pools::Sqlite { write, read }), OwnPlace::Sqlite(reading)))
}

/// Checks that the store's disk accepts writes: as much as a new write-ahead log needs.
pub(super) fn takes_something(path: &Path) -> io::Result<()> {
    use std::io::Write as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(&[0; PROBE_BYTES])
}

/// Opens a file on a disk that accepts no writes: every change fails. `is_at_rest` says that no
/// other process has it open; it can then be read without the WAL files, which cannot be created
/// there.
pub(super) fn sqlite_to_read(path: &Path, is_at_rest: bool) -> (Db, OwnPlace) {
    let reading = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(is_at_rest)
        .busy_timeout(WAIT_MAX)
        .disable_statement_logging();
    let read = sqlite_pool(READERS_MAX).connect_lazy_with(reading.clone());
    (Db::new(Pools::Sqlite { write: read.clone(), read }), OwnPlace::Sqlite(reading))
}

/// Whether SQLite's WAL file exists beside the store, even if empty.
pub(super) fn has_log(path: &Path) -> bool {
    path.with_extension("db-wal").exists()
}

/// Whether all committed changes are in the file itself, and none in its WAL.
pub(super) fn is_at_rest(path: &Path) -> bool {
    let log = path.with_extension("db-wal");
    fs::metadata(log).map_or_else(|e| e.kind() == io::ErrorKind::NotFound, |m| m.len() == 0)
}

fn sqlite_pool(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(WAIT_MAX)
        // On a full disk, SQLite rolls a transaction back by itself, and sqlx considers it open
        // forever. Such a connection is closed and replaced. The test comes first, so that a
        // pending rollback is not mistaken for this.
        .test_before_acquire(true)
        .before_acquire(|connection, _| {
            let idle = !connection.is_in_transaction();
            Box::pin(async move { Ok(idle) })
        })
}

async fn postgres(url: &PostgresUrl, wait_max: Duration) -> Result<(Db, OwnPlace), StoreError> {
    let options = url.options()?;
    let until = Instant::now() + wait_max;
    let server = PostgresServer::new(options.clone());
    loop {
        match server.ask().await {
            // The server may be starting together with this machine.
            Err(error) if error.fault().may_pass() && Instant::now() < until => {
                tokio::time::sleep(CONNECT_AGAIN).await;
            }
            answer => break answer?,
        }
    }
    POSTGRES.run(server.pool()).await?;
    Ok((Db::new(Pools::Postgres(server)), OwnPlace::Postgres(options)))
}

/// Checks that a database can be used now by this user. Changes nothing and creates no tables.
pub(super) async fn try_out(url: &PostgresUrl) -> Result<(), StoreError> {
    let mut connection = connect_to(&url.options()?).await?;
    let sql = "SELECT current_setting('transaction_read_only')";
    let is_read_only: String = sqlx::query(sql).fetch_one(&mut connection).await?.try_get(0)?;
    let _ = connection.close().await;
    match is_read_only.as_str() {
        "off" => Ok(()),
        _ => Err(StoreError::ReadOnly),
    }
}

/// Locks out other processes that create tables in this folder: SQLite's migrations have no lock of
/// their own. Waits without blocking the thread, which the holder may need.
async fn lock(path: &Path) -> Result<File, StoreError> {
    let fault = |cause| StoreError::File { path: path.to_owned(), cause };
    let file = created(path).map_err(fault)?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(cause)) => return Err(fault(cause)),
            Err(TryLockError::WouldBlock) if since.elapsed() > MIGRATION_WAIT_MAX => {
                return Err(fault(io::Error::from(io::ErrorKind::TimedOut)));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Opens a file that only its owner may read, and creates it if there is none.
fn created(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    os::open_for(&mut options, Exposure::Owner).open(path)
}
