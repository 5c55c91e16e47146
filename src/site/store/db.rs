//! One interface to two databases: transactions, statements and rows of SQLite or PostgreSQL.
//!
//! Every statement is written once, in SQL that both accept. Knows no tables.

#[cfg(test)]
pub(super) mod statements;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Postgres, Row as _, Sqlite, Transaction};
use tokio::time::Instant;

use super::breaker::Turn;
use super::health::{Health, HealthChange};
use super::postgres::{InUse, PostgresServer, bounded};
use super::{StoreError, StoreFault};
use crate::live::{Live, Publisher, live};

/// The connections to a database. They can be replaced by others to the same database: a file that
/// was read-only at first may become writable.
#[derive(Clone, Debug)]
pub(super) struct Db {
    pools: Live<Pools>,
    publisher: Arc<Mutex<Publisher<Pools>>>,
    health: Arc<Health>,
}

/// The current connections.
#[derive(Clone, Debug)]
pub(super) enum Pools {
    /// SQLite allows one writer at a time. The writers of this process queue for its one write
    /// connection in order; only writers of different processes wait for each other by retrying.
    Sqlite {
        write: SqlitePool,
        read: SqlitePool,
    },
    Postgres(PostgresServer),
}

/// A block that a change may concern: kind, issuer, and name, as in the table of blocks. A device
/// has one for each of its ids.
pub(super) type Touched = (&'static str, String, String);

/// A transaction. Rolled back if dropped without [`Tx::commit`].
pub(super) struct Tx {
    on: On,
    health: Arc<Health>,
    /// The blocks that it may change.
    touched: BTreeSet<Touched>,
}

enum On {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>, InUse),
}

/// An argument of a statement.
#[derive(Clone, Copy)]
pub(super) enum Arg<'a> {
    Text(Option<&'a str>),
    Int(Option<i64>),
    Bool(bool),
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Arg::Text(Some(text))
    }
}

impl<'a> From<&'a String> for Arg<'a> {
    fn from(text: &'a String) -> Self {
        Arg::Text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Arg<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Arg::Text(text)
    }
}

impl From<i64> for Arg<'_> {
    fn from(number: i64) -> Self {
        Arg::Int(Some(number))
    }
}

impl From<Option<i64>> for Arg<'_> {
    fn from(number: Option<i64>) -> Self {
        Arg::Int(number)
    }
}

impl From<bool> for Arg<'_> {
    fn from(flag: bool) -> Self {
        Arg::Bool(flag)
    }
}

/// A row of a result.
pub(super) enum DbRow {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl DbRow {
    /// The value of a column, counted from 0.
    pub(super) fn get<T>(&self, column: usize) -> Result<T, StoreError>
    where
        T: for<'r> sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
        T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        Ok(match self {
            DbRow::Sqlite(row) => row.try_get(column)?,
            DbRow::Postgres(row) => row.try_get(column)?,
        })
    }
}

/// Binds the arguments to the statement, for one kind of database.
macro_rules! bound {
    ($sql:expr, $args:expr) => {
        $args.iter().fold(sqlx::query($sql), |query, arg| match *arg {
            Arg::Text(text) => query.bind(text),
            Arg::Int(number) => query.bind(number),
            Arg::Bool(flag) => query.bind(flag),
        })
    };
}

impl Db {
    pub(super) fn new(pools: Pools) -> Self {
        let (publisher, pools) = live(pools);
        Db { pools, publisher: Arc::new(Mutex::new(publisher)), health: Arc::default() }
    }

    #[cfg(test)]
    pub(super) fn pools(&self) -> Arc<Pools> {
        self.pools.load()
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Uses the connections of `other` from now on. Transactions in flight finish on their own
    /// connections.
    pub(super) fn replace_by(&self, other: &Db) {
        self.replace(Pools::clone(&other.pools.load()));
    }

    fn replace(&self, pools: Pools) {
        let publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.publish(pools);
    }

    /// Begins a write transaction. Locks other writers out until it ends: SQLite all of them at
    /// once, PostgreSQL only those of the same rows and names.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        let on = match &*self.pools.load() {
            Pools::Sqlite { write, .. } => {
                let tx = write.begin_with("BEGIN IMMEDIATE").await;
                On::Sqlite(self.health.heard(tx.map_err(StoreError::from), HealthChange::Answers)?)
            }
            Pools::Postgres(_) => {
                self.reach(|pool| async move { pool.begin().await }).await?.into()
            }
        };
        Ok(Tx { on, health: self.health.clone(), touched: BTreeSet::new() })
    }

    /// Begins a read transaction with a consistent snapshot. It is dropped, not committed.
    pub(super) async fn snapshot(&self) -> Result<Tx, StoreError> {
        let how = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let on = match &*self.pools.load() {
            Pools::Sqlite { read, .. } => {
                let tx = read.begin().await.map_err(StoreError::from);
                On::Sqlite(self.health.heard(tx, HealthChange::Answers)?)
            }
            Pools::Postgres(_) => {
                self.reach(|pool| async move { pool.begin_with(how).await }).await?.into()
            }
        };
        Ok(Tx { on, health: self.health.clone(), touched: BTreeSet::new() })
    }

    /// Gives free pages of an SQLite file back to the file system, by this pragma.
    pub(super) async fn vacuum(&self, pragma: &'static str) -> Result<(), StoreError> {
        if let Pools::Sqlite { write, .. } = &*self.pools.load() {
            sqlx::query(pragma).execute(write).await?;
        }
        Ok(())
    }

    /// The rows of one read statement.
    pub(super) async fn rows(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<DbRow>, StoreError> {
        #[cfg(test)]
        statements::note(sql);
        let rows = match &*self.pools.load() {
            Pools::Sqlite { read, .. } => {
                let rows = bound!(sql, args).fetch_all(read).await.map_err(StoreError::from);
                rows.map(|rows| rows.into_iter().map(DbRow::Sqlite).collect())
            }
            Pools::Postgres(_) => {
                let (mut connection, _in_use) =
                    self.reach(|pool| async move { pool.acquire().await }).await?;
                let rows = bounded(bound!(sql, args).fetch_all(&mut *connection)).await;
                rows.map(|rows| rows.into_iter().map(DbRow::Postgres).collect())
            }
        };
        self.health.heard(rows, HealthChange::Answers)
    }

    /// Acquires something from PostgreSQL's pool, or fails at once if the database is known to be
    /// unreachable.
    async fn reach<T, F>(&self, get: impl Fn(PgPool) -> F) -> Result<(T, InUse), StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        if self.health.admit(Instant::now())? == Turn::Probe {
            self.probe().await?;
        }
        let Pools::Postgres(server) = &*self.pools.load() else { return Err(StoreError::Closed) };
        let got = server.get(&self.health, get).await;
        self.health.heard(got, HealthChange::Answers)
    }

    /// Probes whether PostgreSQL can be reached.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let Pools::Postgres(server) = &*self.pools.load() else { return Ok(()) };
        let answer = server.ask().await;
        // After an outage, existing connections may be dead without having noticed. In other cases
        // they are kept: a busy server must not get more connections.
        let outage = [Some(StoreFault::NoAnswer), Some(StoreFault::Unreachable)];
        if answer.is_ok() && outage.contains(&self.health.away()) {
            self.replace(Pools::Postgres(server.renewed()));
        }
        self.health.heard(answer, HealthChange::Answers)
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.pools.peek(|pools| matches!(pools, Pools::Postgres(_)))
    }

    /// Closes all connections, once they are no longer in use.
    pub(super) async fn close(&self) {
        match &*self.pools.load() {
            Pools::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(server) => server.close().await,
        }
    }
}

impl From<(Transaction<'static, Postgres>, InUse)> for On {
    fn from((tx, in_use): (Transaction<'static, Postgres>, InUse)) -> Self {
        On::Postgres(tx, in_use)
    }
}

impl Tx {
    /// Commits. After the return, the changes are on disk.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        let done = match self.on {
            On::Sqlite(tx) => tx.commit().await.map_err(StoreError::from),
            On::Postgres(tx, _in_use) => bounded(tx.commit()).await,
        };
        self.health.heard(done, HealthChange::Writes)
    }

    /// The number of rows that a statement changed.
    pub(super) async fn run(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<u64, StoreError> {
        #[cfg(test)]
        statements::note(sql);
        let done = match &mut self.on {
            On::Sqlite(tx) => {
                let done = bound!(sql, args).execute(&mut **tx).await;
                done.map(|done| done.rows_affected()).map_err(StoreError::from)
            }
            On::Postgres(tx, _) => {
                let done = bounded(bound!(sql, args).execute(&mut **tx)).await;
                done.map(|done| done.rows_affected())
            }
        };
        self.health.noted(done)
    }

    /// The rows of a statement.
    pub(super) async fn rows(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<DbRow>, StoreError> {
        #[cfg(test)]
        statements::note(sql);
        let rows = match &mut self.on {
            On::Sqlite(tx) => {
                let rows = bound!(sql, args).fetch_all(&mut **tx).await.map_err(StoreError::from);
                rows.map(|rows| rows.into_iter().map(DbRow::Sqlite).collect())
            }
            On::Postgres(tx, _) => {
                let rows = bounded(bound!(sql, args).fetch_all(&mut **tx)).await;
                rows.map(|rows| rows.into_iter().map(DbRow::Postgres).collect())
            }
        };
        self.health.noted(rows)
    }

    /// Calls a function with each row of a statement in turn: for results that need not be in
    /// memory as a whole.
    pub(super) async fn each(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
        mut of_row: impl FnMut(&DbRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        #[cfg(test)]
        statements::note(sql);
        let done = match &mut self.on {
            On::Sqlite(tx) => {
                let mut rows = bound!(sql, args).fetch(&mut **tx);
                loop {
                    match rows.try_next().await {
                        Ok(Some(row)) => of_row(&DbRow::Sqlite(row))?,
                        Ok(None) => break Ok(()),
                        Err(error) => break Err(error.into()),
                    }
                }
            }
            On::Postgres(tx, _) => {
                let mut rows = bound!(sql, args).fetch(&mut **tx);
                loop {
                    match bounded(rows.try_next()).await {
                        Ok(Some(row)) => of_row(&DbRow::Postgres(row))?,
                        Ok(None) => break Ok(()),
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        self.health.noted(done)
    }

    /// Notes a block that this transaction may change.
    pub(super) fn touch(&mut self, block: Touched) {
        self.touched.insert(block);
    }

    /// The noted blocks.
    pub(super) fn take_touched(&mut self) -> BTreeSet<Touched> {
        std::mem::take(&mut self.touched)
    }

    /// The first row of a statement.
    pub(super) async fn row(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Option<DbRow>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Whether a statement returns a row.
    pub(super) async fn any(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<bool, StoreError> {
        Ok(self.row(sql, args).await?.is_some())
    }

    /// Locks these names for other transactions until this one ends, also names that are in no row
    /// yet. Locks in sorted order, so that two transactions cannot deadlock. With SQLite the
    /// transaction excludes all other writers already.
    pub(super) async fn lock_names(&mut self, names: &mut [&str]) -> Result<(), StoreError> {
        let On::Postgres(..) = &self.on else { return Ok(()) };
        names.sort_unstable();
        for name in names.iter() {
            // The first number separates these locks from those of other programs in the same
            // database.
            let sql = "SELECT pg_advisory_xact_lock(1936291431, hashtext($1))";
            self.run(sql, &[(*name).into()]).await?;
        }
        Ok(())
    }

    /// Locks these devices against changes by other transactions until this one ends.
    pub(super) async fn lock_devices(&mut self, ids: &mut Vec<String>) -> Result<(), StoreError> {
        ids.sort_unstable();
        ids.dedup();
        let On::Postgres(..) = &self.on else { return Ok(()) };
        for id in ids.iter() {
            let sql = "SELECT id FROM devices WHERE id = $1 FOR NO KEY UPDATE";
            self.rows(sql, &[id.into()]).await?;
        }
        Ok(())
    }

    /// Notifies PostgreSQL listeners if and when this transaction commits.
    pub(super) async fn notify(&mut self, channel: &str) -> Result<(), StoreError> {
        if let On::Postgres(..) = &self.on {
            self.rows("SELECT pg_notify($1, '')", &[channel.into()]).await?;
        }
        Ok(())
    }
}
