//! Waits for changes of the blocks, made by this process, another process or another machine.
//!
//! Never fails: an unreachable database is polled until it is back. Never spins.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::place::OwnPlace;
use super::postgres::CONNECT_MAX;
use super::{Store, StoreError};

/// PostgreSQL's notification channel.
pub(super) const CHANNEL: &str = "blocks_of_sitegate";
/// Reads the version of the blocks.
pub(super) const VERSION: &str = "SELECT block_version FROM state WHERE id = 1";

/// The polling interval for an SQLite file. A poll is one step of a prepared statement on a
/// separate thread, about twenty microseconds: it compares a number in the shared memory of the
/// write-ahead log, reads no page and takes no lock. 25 polls per second are a twentieth of a per
/// cent of a core.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(40);
/// The polling interval for PostgreSQL besides notifications: a connection may die silently.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// The delay before a retry.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Waits for changes of the blocks.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    heard: watch::Receiver<i64>,
    seen: i64,
    ear: Ear,
    /// The generation of the connection options that the ear was made from.
    made_of: u64,
    /// The time of the next poll. Stored across calls, so that polling continues even if callers
    /// often drop the wait.
    next: Instant,
}

/// Detects changes of other processes.
#[derive(Debug)]
enum Ear {
    Sqlite { options: SqliteConnectOptions, connection: Option<(SqliteConnection, i64)> },
    Postgres { options: PgConnectOptions, listener: Option<Box<PgListener>> },
    Nowhere,
}

impl Store {
    /// Follows the blocks from now on. A caller that reads them after this call and after each
    /// [`Follower::changed`] misses nothing.
    pub fn follow(&self) -> Follower {
        let heard = self.shared.heard.subscribe();
        let seen = *heard.borrow();
        let (ear, made_of) = Ear::of(self);
        Follower { store: self.clone(), heard, seen, ear, made_of, next: Instant::now() }
    }
}

impl Follower {
    /// Returns when the blocks may have changed since the last call: at once for a change in this
    /// process, within a tenth of a second for another process with SQLite, and at the server's
    /// notification with PostgreSQL. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            if self.store.shared.own.generation() != self.made_of {
                (self.ear, self.made_of) = Ear::of(&self.store);
            }
            let heard = *self.heard.borrow_and_update();
            if heard > self.seen {
                self.seen = heard;
                return;
            }
            let told = tokio::select! {
                // Invariant: `self.store` holds the channel's sender, so it stays open.
                _ = self.heard.changed() => continue,
                told = self.ear.listen(&self.store, &mut self.next) => told,
            };
            match told {
                // A lower version means a restored copy.
                Ok(Some(version)) if version != self.seen => {
                    self.seen = version;
                    self.store.heard(version);
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(target: "sitegate::site", %error, "cannot follow the store");
                    self.next = Instant::now() + RETRY_AFTER;
                }
            }
        }
    }
}

impl Ear {
    /// Creates one for a store; also returns the generation of the connection options.
    fn of(store: &Store) -> (Self, u64) {
        let generation = store.shared.own.generation();
        let ear = match &*store.shared.own.load() {
            OwnPlace::Sqlite(options) => Ear::Sqlite { options: options.clone(), connection: None },
            OwnPlace::Postgres(options) => {
                Ear::Postgres { options: options.clone(), listener: None }
            }
            OwnPlace::Nowhere => Ear::Nowhere,
        };
        (ear, generation)
    }

    /// Waits for a notification or the polling time, and returns the version if it may have
    /// changed.
    ///
    /// The connection is taken out while in use: if this future is dropped, a new connection is
    /// made instead of reading the rest of an old response.
    async fn listen(
        &mut self,
        store: &Store,
        next: &mut Instant,
    ) -> Result<Option<i64>, StoreError> {
        match self {
            Ear::Nowhere => {
                tokio::time::sleep(LOOK_EVERY).await;
                Ok(None)
            }
            Ear::Sqlite { options, connection } => {
                sleep_until(*next).await;
                let (mut open, last) = match connection.take() {
                    Some(open) => open,
                    None => (options.connect().await?, i64::MIN),
                };
                let now: i64 = number(&mut open, "PRAGMA data_version").await?;
                let version =
                    if now == last { None } else { Some(number(&mut open, VERSION).await?) };
                *connection = Some((open, now));
                *next = Instant::now() + LOOK_EVERY;
                Ok(version)
            }
            Ear::Postgres { options, listener } => {
                match listener {
                    Some(open) => {
                        let is_lost = tokio::select! {
                            told = open.try_recv() => !matches!(told, Ok(Some(_))),
                            () = sleep_until(*next) => false,
                        };
                        if is_lost {
                            *listener = None;
                        }
                    }
                    // Listens before it reads, so that no change is missed in between.
                    None => {
                        sleep_until(*next).await;
                        // While the breaker is open, only its probe may connect.
                        if store.db.health().away().is_none() {
                            match listen_to(options).await {
                                Ok(open) => *listener = Some(Box::new(open)),
                                Err(error) => tracing::debug!(target: "sitegate::site", %error,
                                    "no notifications of changes; polling the store"),
                            }
                        }
                    }
                }
                // The notification and the read are two steps; if this future is dropped between
                // them, the next call must read at once.
                *next = Instant::now();
                let version = store.block_version().await?;
                *next += if listener.is_some() { ASK_EVERY } else { LOOK_EVERY };
                Ok(Some(version))
            }
        }
    }
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    Ok(sqlx::query(sql).fetch_one(connection).await?.try_get(0)?)
}

/// A dedicated connection, so that the listener takes none from the store's pool.
async fn listen_to(options: &PgConnectOptions) -> Result<PgListener, StoreError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_MAX)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    // A lost connection is reported, and then replaced.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
