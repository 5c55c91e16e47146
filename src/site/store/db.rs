//! One way to two databases: transactions, statements and rows, whichever is behind them.
//!
//! Every statement is written once, in SQL that both understand. Knows no table.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Postgres, Row as _, Sqlite, Transaction};
use tokio::time::Instant;

use super::breaker::Turn;
use super::health::{Health, Shown};
use super::postgres::{InUse, Server, bounded};
use super::{StoreError, StoreFault};
use crate::live::{Live, Publisher, live};

/// The connections to a database, which may be replaced by others to the same: a file that could only
/// be read at first can be written later.
#[derive(Clone, Debug)]
pub(super) struct Db {
    pools: Live<Pools>,
    publisher: Arc<Mutex<Publisher<Pools>>>,
    health: Arc<Health>,
}

/// The connections of a moment.
#[derive(Clone, Debug)]
pub(super) enum Pools {
    /// SQLite has one writer at a time. Those of this process wait for its one connection in the
    /// order that they came, and only processes wait for each other by trying again.
    Sqlite {
        write: SqlitePool,
        read: SqlitePool,
    },
    Postgres(Server),
}

/// A transaction. What is dropped without [`Tx::commit`] has not happened.
pub(super) struct Tx {
    on: On,
    health: Arc<Health>,
}

enum On {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>, InUse),
}

/// A value of a statement.
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

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, counted from 0.
    pub(super) fn get<T>(&self, column: usize) -> Result<T, StoreError>
    where
        T: for<'r> sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
        T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        Ok(match self {
            Row::Sqlite(row) => row.try_get(column)?,
            Row::Postgres(row) => row.try_get(column)?,
        })
    }
}

/// The statement with its values, for one kind of database.
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

    /// Use another's connections from now on. What is under way ends on the ones it has.
    pub(super) fn replace_by(&self, other: &Db) {
        self.replace(Pools::clone(&other.pools.load()));
    }

    fn replace(&self, pools: Pools) {
        let publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.publish(pools);
    }

    /// A transaction that will write. Nobody else writes to the same until it ends: SQLite locks
    /// out all other writers at once, PostgreSQL only those of the same rows and names.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        let on = match &*self.pools.load() {
            Pools::Sqlite { write, .. } => {
                let tx = write.begin_with("BEGIN IMMEDIATE").await;
                On::Sqlite(self.health.heard(tx.map_err(StoreError::from), Shown::Answers)?)
            }
            Pools::Postgres(_) => {
                self.reach(|pool| async move { pool.begin().await }).await?.into()
            }
        };
        Ok(Tx { on, health: self.health.clone() })
    }

    /// A transaction that reads, and sees all of one moment. It is dropped, not committed.
    pub(super) async fn snapshot(&self) -> Result<Tx, StoreError> {
        let how = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let on = match &*self.pools.load() {
            Pools::Sqlite { read, .. } => {
                let tx = read.begin().await.map_err(StoreError::from);
                On::Sqlite(self.health.heard(tx, Shown::Answers)?)
            }
            Pools::Postgres(_) => {
                self.reach(|pool| async move { pool.begin_with(how).await }).await?.into()
            }
        };
        Ok(Tx { on, health: self.health.clone() })
    }

    /// The rows of one reading statement.
    pub(super) async fn rows(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let rows = match &*self.pools.load() {
            Pools::Sqlite { read, .. } => {
                let rows = bound!(sql, args).fetch_all(read).await.map_err(StoreError::from);
                rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            Pools::Postgres(_) => {
                let (mut connection, _in_use) =
                    self.reach(|pool| async move { pool.acquire().await }).await?;
                let rows = bounded(bound!(sql, args).fetch_all(&mut *connection)).await;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        self.health.heard(rows, Shown::Answers)
    }

    /// Something of PostgreSQL's pool, or at once the reason why there is nothing.
    async fn reach<T, F>(&self, get: impl Fn(PgPool) -> F) -> Result<(T, InUse), StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        if self.health.admit(Instant::now())? == Turn::Probe {
            self.probe().await?;
        }
        let Pools::Postgres(server) = &*self.pools.load() else { return Err(StoreError::Closed) };
        let got = server.get(&self.health, get).await;
        self.health.heard(got, Shown::Answers)
    }

    /// Try whether PostgreSQL can be reached.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let Pools::Postgres(server) = &*self.pools.load() else { return Ok(()) };
        let answer = server.ask().await;
        // Connections of before an outage may be dead without knowing it. Others are kept: a server
        // that is busy must not be given more of them.
        let outage = [Some(StoreFault::NoAnswer), Some(StoreFault::Unreachable)];
        if answer.is_ok() && outage.contains(&self.health.away()) {
            self.replace(Pools::Postgres(server.renewed()));
        }
        self.health.heard(answer, Shown::Answers)
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.pools.peek(|pools| matches!(pools, Pools::Postgres(_)))
    }

    /// Let go of all connections, when those who use them are done.
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
    /// Make it happen. When this has returned, it is on disk.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        let done = match self.on {
            On::Sqlite(tx) => tx.commit().await.map_err(StoreError::from),
            On::Postgres(tx, _in_use) => bounded(tx.commit()).await,
        };
        self.health.heard(done, Shown::Writes)
    }

    /// How many rows a statement changed.
    pub(super) async fn run(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<u64, StoreError> {
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
    ) -> Result<Vec<Row>, StoreError> {
        let rows = match &mut self.on {
            On::Sqlite(tx) => {
                let rows = bound!(sql, args).fetch_all(&mut **tx).await.map_err(StoreError::from);
                rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            On::Postgres(tx, _) => {
                let rows = bounded(bound!(sql, args).fetch_all(&mut **tx)).await;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        self.health.noted(rows)
    }

    /// The first row of a statement.
    pub(super) async fn row(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Whether a statement has a row.
    pub(super) async fn any(
        &mut self,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<bool, StoreError> {
        Ok(self.row(sql, args).await?.is_some())
    }

    /// Keep others from working on what has these names, until the end of the transaction: also
    /// names that are in no row yet. They are locked in one order, so that two cannot wait for each
    /// other. With SQLite the transaction has kept out all others already.
    pub(super) async fn lock_names(&mut self, names: &mut [&str]) -> Result<(), StoreError> {
        let On::Postgres(..) = &self.on else { return Ok(()) };
        names.sort_unstable();
        for name in names.iter() {
            // The first number keeps these locks apart from others' of the same database.
            let sql = "SELECT pg_advisory_xact_lock(1936291431, hashtext($1))";
            self.run(sql, &[(*name).into()]).await?;
        }
        Ok(())
    }

    /// Keep others from changing these devices until the end of the transaction.
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

    /// Tell whoever listens on PostgreSQL, if and when this is committed.
    pub(super) async fn notify(&mut self, channel: &str) -> Result<(), StoreError> {
        if let On::Postgres(..) = &self.on {
            self.rows("SELECT pg_notify($1, '')", &[channel.into()]).await?;
        }
        Ok(())
    }
}
