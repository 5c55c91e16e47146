//! Waiting for a change of the blocks, whoever makes it: this process, another, another machine.
//!
//! Never fails: a database that is gone is asked again until it is back. Never spins.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::place::Own;
use super::postgres::CONNECT_MAX;
use super::{Store, StoreError, block};

/// What PostgreSQL's listeners are told on.
pub(super) const CHANNEL: &str = "blocks_of_sitegate";

/// How often an SQLite file is looked at. A look is one step of a prepared statement on a thread of
/// its own, some twenty microseconds: it compares a number in the shared memory of the write-ahead
/// log, reads no page and takes no lock. Ten a second are a fiftieth of a per cent of a core.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
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
    /// How often the way to a connection had been replaced when the ear was made.
    made_of: u64,
    /// When to look again. Kept from call to call: whoever drops the wait often still gets a look.
    next: Instant,
}

/// What notices the changes of others.
#[derive(Debug)]
enum Ear {
    Sqlite { options: SqliteConnectOptions, connection: Option<(SqliteConnection, i64)> },
    Postgres { options: PgConnectOptions, listener: Option<Box<PgListener>> },
    Nowhere,
}

impl Store {
    /// Follow the blocks from now on: read them after this call and after each
    /// [`Follower::changed`], and nothing is missed.
    pub fn follow(&self) -> Follower {
        let heard = self.shared.heard.subscribe();
        let seen = *heard.borrow();
        let (ear, made_of) = Ear::of(self);
        Follower { store: self.clone(), heard, seen, ear, made_of, next: Instant::now() }
    }
}

impl Follower {
    /// Return when the blocks may have changed since the last time: at once for a change in this
    /// process, within two tenths of a second for another process's with SQLite, and as soon as the
    /// server tells of it with PostgreSQL. May be dropped at any time and called again.
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
                // Invariant of the channel: `self.store` holds its sender, so it stays open.
                _ = self.heard.changed() => continue,
                told = self.ear.listen(&self.store, &mut self.next) => told,
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
                    self.next = Instant::now() + RETRY_AFTER;
                }
            }
        }
    }
}

impl Ear {
    /// One for a store, and how often the way to a connection had been replaced.
    fn of(store: &Store) -> (Self, u64) {
        let generation = store.shared.own.generation();
        let ear = match &*store.shared.own.load() {
            Own::Sqlite(options) => Ear::Sqlite { options: options.clone(), connection: None },
            Own::Postgres(options) => Ear::Postgres { options: options.clone(), listener: None },
            Own::Nowhere => Ear::Nowhere,
        };
        (ear, generation)
    }

    /// Wait a while for a sign of a change, and ask for the version if there was one or it is time.
    ///
    /// What is being used is taken out first: if this is dropped in the middle, a new connection is
    /// made instead of going on with half an answer.
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
                let version = match now == last {
                    true => None,
                    false => Some(number(&mut open, block::VERSION).await?),
                };
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
                    // Listen first and ask afterwards, so that nothing falls between.
                    None => {
                        sleep_until(*next).await;
                        // While nobody is let through, this is no other attempt beside the probe.
                        if store.db.health().away().is_none() {
                            match listen_to(options).await {
                                Ok(open) => *listener = Some(Box::new(open)),
                                Err(error) => tracing::debug!(target: "sitegate::site", %error,
                                    "nobody tells of changes; the store is asked"),
                            }
                        }
                    }
                }
                // Being told and asking are two steps; if this is dropped between them, the next
                // call has to ask at once.
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

/// A connection that is nobody else's: one of the store's would be missing there.
async fn listen_to(options: &PgConnectOptions) -> Result<PgListener, StoreError> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_MAX)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    // A loss is told, and then it is made anew.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
