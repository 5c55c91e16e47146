//! Where a store lies, and how it is opened there.
//!
//! Never shows the URL of a database: there is a password in it.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use zeroize::Zeroizing;

use super::StoreError;
use super::db::{Db, Pools};
use super::postgres::{Server, connect as connect_to};
use crate::secret::private_dir;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// How soon a server is asked again that may be starting.
const CONNECT_AGAIN: Duration = Duration::from_millis(100);
/// How long to wait for a connection to a file, or for another process that writes.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How long to wait for another process that makes or changes the tables.
const MIGRATION_WAIT_MAX: Duration = Duration::from_secs(60);
const READERS_MAX: u32 = 4;
const PROBE_BYTES: usize = 64 * 1024;

/// Where a store lies.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file. It and its folder are made if need be, closed to all others.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(PostgresUrl),
}

impl Place {
    /// The word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Place::Sqlite(_) => "sqlite",
            Place::Postgres(_) => "postgres",
        }
    }
}

/// The URL of a PostgreSQL database, `postgres://USER:PASSWORD@HOST/DATABASE`. Never shown.
#[derive(Clone)]
pub struct PostgresUrl(Zeroizing<String>);

impl PostgresUrl {
    /// Take a URL.
    ///
    /// # Errors
    /// [`StoreError::Url`] for what is none.
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

/// How to make a connection beside the pools.
#[derive(Clone)]
pub(super) enum Own {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
    /// None at present: whoever has one lets go of it.
    Nowhere,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.write_str(match self {
            Own::Sqlite(_) => "Own::Sqlite",
            Own::Postgres(_) => "Own::Postgres",
            Own::Nowhere => "Own::Nowhere",
        })
    }
}

/// Connect, and bring the tables up to date.
/// `patience` is how long a server is waited for that may be starting.
pub(super) async fn connect(place: &Place, patience: Duration) -> Result<(Db, Own), StoreError> {
    match place {
        Place::Sqlite(path) => sqlite(path).await,
        Place::Postgres(url) => postgres(url, patience).await,
    }
}

async fn sqlite(path: &Path) -> Result<(Db, Own), StoreError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let fault = |cause| StoreError::File { path: path.to_owned(), cause };
    private_dir(dir).map_err(fault)?;
    // SQLite gives its other files the mode of this one.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(fault)?;
    // On some volumes modes cannot be set.
    let _ = fs::set_permissions(path, Permissions::from_mode(0o600));
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(WAIT_MAX)
        .disable_statement_logging();
    // FULL: with WAL and less, what was confirmed can be lost when the power fails.
    let writing =
        options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let reading = options.pragma("query_only", "ON");
    let _lock = lock(&path.with_extension("lock")).await?;
    let write = sqlite_pool(1).connect_with(writing).await?;
    SQLITE.run(&write).await?;
    let read = sqlite_pool(READERS_MAX).connect_lazy_with(reading.clone());
    Ok((Db::new(Pools::Sqlite { write, read }), Own::Sqlite(reading)))
}

/// Whether the disk beside a store takes anything: as much as a write-ahead log begins with.
pub(super) fn takes_something(path: &Path) -> io::Result<()> {
    use std::io::Write as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(&[0; PROBE_BYTES])
}

/// As it lies on a disk that takes nothing: whoever tries to change anything is told so.
/// `is_at_rest` says that nobody else has it open, so that it can be read without the files beside
/// it, which cannot be made there.
pub(super) fn sqlite_to_read(path: &Path, is_at_rest: bool) -> (Db, Own) {
    let reading = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(is_at_rest)
        .busy_timeout(WAIT_MAX)
        .disable_statement_logging();
    let read = sqlite_pool(READERS_MAX).connect_lazy_with(reading.clone());
    (Db::new(Pools::Sqlite { write: read.clone(), read }), Own::Sqlite(reading))
}

/// Whether SQLite's log lies beside a file, be it empty.
pub(super) fn has_log(path: &Path) -> bool {
    path.with_extension("db-wal").exists()
}

/// Whether all that was ever confirmed is in the file itself, and nothing in its log.
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
        // Where the disk is full, SQLite takes a transaction back by itself, and sqlx believes for
        // ever that it is under way. Such a connection is closed, and another one opened. The test
        // comes first, so that a rollback that is only on its way is not taken for one.
        .test_before_acquire(true)
        .before_acquire(|connection, _| {
            let idle = !connection.is_in_transaction();
            Box::pin(async move { Ok(idle) })
        })
}

async fn postgres(url: &PostgresUrl, patience: Duration) -> Result<(Db, Own), StoreError> {
    let options = url.options()?;
    let until = Instant::now() + patience;
    let server = Server::new(options.clone());
    loop {
        match server.ask().await {
            // It may start together with this machine.
            Err(error) if error.fault().may_pass() && Instant::now() < until => {
                tokio::time::sleep(CONNECT_AGAIN).await;
            }
            answer => break answer?,
        }
    }
    POSTGRES.run(server.pool()).await?;
    Ok((Db::new(Pools::Postgres(server)), Own::Postgres(options)))
}

/// Whether the store of a place can be used, now and by this user. Changes nothing, and makes no
/// tables.
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

/// Nobody else makes tables in this folder while the file is held: SQLite's migrations know no lock
/// of their own. Waits without holding up the thread, on which the holder may be.
async fn lock(path: &Path) -> Result<fs::File, StoreError> {
    let fault = |cause| StoreError::File { path: path.to_owned(), cause };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(fault)?;
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
