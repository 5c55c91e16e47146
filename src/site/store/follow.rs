//! Waiting for a change of the blocks, whoever makes it: this process, another, another machine.
//!
//! Never fails: a database that is gone is asked again until it is back. Never spins.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::sync::watch;
use tokio::time::sleep;

use super::place::Own;
use super::{Store, StoreError, block};

/// What PostgreSQL's listeners are told on.
pub(super) const CHANNEL: &str = "blocks_of_sitegate";

/// How often an SQLite file is looked at. A look is one step of a prepared statement on a thread of
/// its own, some twenty microseconds: it compares a number in the shared memory of the write-ahead
/// log, reads no page and takes no lock. Ten a second are a fiftieth of a per cent of a core.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often PostgreSQL is asked besides: a connection may die without a word.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long to wait before trying again what failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Waits for changes of the blocks.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    heard: watch::Receiver<i64>,
    seen: i64,
    ear: Ear,
}

/// What notices the changes of others.
#[derive(Debug)]
enum Ear {
    Sqlite { options: SqliteConnectOptions, connection: Option<(SqliteConnection, i64)> },
    Postgres { options: PgConnectOptions, listener: Option<Box<PgListener>> },
}

impl Store {
    /// Follow the blocks from now on: read them after this call and after each
    /// [`Follower::changed`], and nothing is missed.
    pub fn follow(&self) -> Follower {
        let heard = self.shared.heard.subscribe();
        let seen = *heard.borrow();
        let ear = match &self.shared.own {
            Own::Sqlite(options) => Ear::Sqlite { options: options.clone(), connection: None },
            Own::Postgres(options) => Ear::Postgres { options: options.clone(), listener: None },
        };
        Follower { store: self.clone(), heard, seen, ear }
    }
}

impl Follower {
    /// Return when the blocks may have changed since the last time: at once for a change in this
    /// process, within two tenths of a second for another process's with SQLite, and as soon as the
    /// server tells of it with PostgreSQL. May be dropped at any time and called again.
    pub async fn changed(&mut self) {
        loop {
            let heard = *self.heard.borrow_and_update();
            if heard > self.seen {
                self.seen = heard;
                return;
            }
            let told = tokio::select! {
                // Invariant of the channel: `self.store` holds its sender, so it stays open.
                _ = self.heard.changed() => continue,
                told = self.ear.listen(&self.store) => told,
            };
            match told {
                // A lower version is that of a copy that was restored.
                Ok(Some(version)) if version != self.seen => {
                    self.seen = version;
                    self.store.heard(version);
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(target: "sitegate::site", %error, "cannot follow the store");
                    sleep(RETRY_AFTER).await;
                }
            }
        }
    }
}

impl Ear {
    /// Wait a while for a sign of a change, and ask for the version if there was one or it is time.
    ///
    /// What is being used is taken out first: if this is dropped in the middle, a new connection is
    /// made instead of going on with half an answer.
    async fn listen(&mut self, store: &Store) -> Result<Option<i64>, StoreError> {
        match self {
            Ear::Sqlite { options, connection } => {
                let (mut open, last) = match connection.take() {
                    Some((open, last)) => {
                        // Nothing is under way yet: a drop here must not cost the connection.
                        *connection = Some((open, last));
                        sleep(LOOK_EVERY).await;
                        match connection.take() {
                            Some(open) => open,
                            None => return Ok(None),
                        }
                    }
                    None => (options.connect().await?, i64::MIN),
                };
                let now: i64 = number(&mut open, "PRAGMA data_version").await?;
                let version = match now == last {
                    true => None,
                    false => Some(number(&mut open, block::VERSION).await?),
                };
                *connection = Some((open, now));
                Ok(version)
            }
            Ear::Postgres { options, listener } => {
                match listener {
                    Some(open) => {
                        let told = tokio::select! {
                            told = open.try_recv() => told.map(|_| ()),
                            () = sleep(ASK_EVERY) => Ok(()),
                        };
                        if told.is_err() {
                            *listener = None;
                        }
                        told?;
                    }
                    // Listen first and ask afterwards, so that nothing falls between.
                    None => *listener = Some(Box::new(listen_to(options).await?)),
                }
                store.block_version().await.map(Some)
            }
        }
    }
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    Ok(sqlx::query(sql).fetch_one(connection).await?.try_get(0)?)
}

/// A connection that is nobody else's: one of the store's would be missing there.
async fn listen_to(options: &PgConnectOptions) -> Result<PgListener, StoreError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
