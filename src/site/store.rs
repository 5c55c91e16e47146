//! The site's store: devices and their keys, token records, blocks, used assertions and the audit
//! log, in an SQLite file or in PostgreSQL.
//!
//! Each change is one transaction with its audit line, and is on disk at the return. Never holds a
//! token or a private key. The only module that uses sqlx.

mod audit;
mod block;
mod block_changes;
mod block_device;
mod block_log;
mod breaker;
mod certificate;
mod db;
mod decide;
mod device;
mod error;
mod fault;
mod follow;
mod gateway;
mod grant;
mod health;
mod history;
mod place;
mod postgres;
mod probe;
mod publish;
mod recover;
mod register;
mod sweep;
mod token;
mod waiting;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

pub use audit::{Action, AuditFilter, AuditRecord};
pub use block::{BlockEntry, Blocked, BlockedOwned, Covered, StoredBlocks};
pub use block_changes::{BlockChanges, CurrentBlocks};
pub use block_device::{BulkToken, DeviceBlock};

pub use certificate::RoleCertificate;
pub use decide::{Approval, Approved, KEYS_MAX, Registration};
pub use device::{Device, DeviceFilter, DeviceKey, DeviceOrigin, Via};
pub use error::StoreError;
pub use fault::StoreFault;
pub use follow::Follower;
pub use gateway::{GatewayIdentity, GatewayRecord, JoinError, Joining};
pub use grant::{Grant, GrantError, Proof};
pub use health::{OnStore, StoreEvent, StoreHealth, Trouble};
pub use history::RECOVERED_BY;
pub use place::{PostgresUrl, StorePlace};
pub use publish::{NewDocument, StoredBundle, StoredDelta};
pub use recover::{FoundIn, Lost};
pub use register::{RegisterError, Registered};
pub use sweep::{Retention, Swept};
pub use token::{IssuedToken, TokenFilter, TokenRef};
pub use waiting::{Dropped, RejectedKeys, WAITING_KEPT_S};

use db::Db;
use health::HealthChange;
use place::OwnPlace;

use crate::live::{Live, Publisher, live};

/// How long to wait at startup for a server that may start together with this process.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The site's store. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    shared: Arc<StoreState>,
}

#[derive(Debug)]
struct StoreState {
    /// How a follower makes its own connection.
    own: Live<OwnPlace>,
    replace_own: Mutex<Publisher<OwnPlace>>,
    /// Whether known blocks could not be written into the store.
    is_incomplete: AtomicBool,
    /// The latest version of the blocks known to this process.
    heard: watch::Sender<i64>,
}

impl Store {
    /// Opens a store: creates its file or its tables if needed, and migrates them. Concurrent opens
    /// wait.
    ///
    /// # Errors
    /// The obstacle: [`StoreError::Newer`] if a later sitegate has migrated the tables,
    /// [`StoreError::ReadOnly`] if it cannot be written.
    pub async fn open(place: &StorePlace, now: Timestamp) -> Result<Self, StoreError> {
        let store = Store::open_at_start(place).await?;
        // Also shows at startup, not at the first device, whether the store can be written.
        store.record(Action::Opened, "store", place.kind(), "sitegate", now).await?;
        Ok(store)
    }

    /// Like [`Store::open`], for one command, without an audit line for the opening.
    ///
    /// # Errors
    /// As [`Store::open`], but a read-only store is detected only at the first write.
    pub async fn open_briefly(place: &StorePlace) -> Result<Self, StoreError> {
        Store::open_within(place, Duration::ZERO).await
    }

    /// Like [`Store::open_briefly`], for a process that may start together with its database: waits
    /// a few seconds for it.
    ///
    /// # Errors
    /// As [`Store::open_briefly`].
    pub async fn open_at_start(place: &StorePlace) -> Result<Self, StoreError> {
        Store::open_within(place, WAIT_MAX).await
    }

    async fn open_within(place: &StorePlace, wait_max: Duration) -> Result<Self, StoreError> {
        let store = Store::with(place::connect(place, wait_max).await?);
        store.shared.heard.send_replace(store.block_version().await?);
        Ok(store)
    }

    fn with((db, own): (Db, OwnPlace)) -> Self {
        let (heard, _) = watch::channel(0);
        let (publisher, own) = live(own);
        let (replace_own, is_incomplete) = (Mutex::new(publisher), AtomicBool::new(false));
        Store { db, shared: Arc::new(StoreState { own, replace_own, is_incomplete, heard }) }
    }

    /// Reopens for writing a store that was opened by [`Store::open_to_read`], for all clones.
    /// Requests in between fail.
    ///
    /// # Errors
    /// The obstacle, as for [`Store::open`]; the store can then be read as before.
    pub async fn reopen(&self, path: &Path, now: Timestamp) -> Result<(), StoreError> {
        let fault = |cause| StoreError::File { path: path.to_owned(), cause };
        place::takes_something(path).map_err(fault)?;
        // SQLite shares the state of a file among all connections of a process: while a read-only
        // connection is open, no other can write.
        self.own(OwnPlace::Nowhere);
        self.db.close().await;
        tokio::time::sleep(follow::LOOK_EVERY * 3).await;
        let opened = Store::open(&StorePlace::Sqlite(path.to_owned()), now).await;
        let store = match &opened {
            Ok(fresh) => fresh,
            Err(_) => &Store::open_to_read(path).await?,
        };
        self.db.replace_by(&store.db);
        if opened.is_ok() {
            self.db.health().succeeded(HealthChange::Writes, Instant::now());
        }
        self.own(OwnPlace::clone(&store.shared.own.load()));
        opened.map(drop)
    }

    fn own(&self, own: OwnPlace) {
        let publisher = self.shared.replace_own.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.publish(own);
    }

    /// Checks that a file can be opened and read. Creates no files.
    ///
    /// # Errors
    /// The fault.
    pub async fn look(path: &Path) -> Result<(), StoreError> {
        // If a process has it open, its WAL exists, and is then read, too.
        let store = Store::with(place::sqlite_to_read(path, !place::has_log(path)));
        let looked = store.block_version().await.map(drop);
        store.close().await;
        looked
    }

    /// Checks that a PostgreSQL database can be used now by this user. Changes nothing.
    ///
    /// # Errors
    /// The obstacle.
    pub async fn try_out(url: &PostgresUrl) -> Result<(), StoreError> {
        place::try_out(url).await
    }

    /// The current health of the store.
    pub fn health(&self) -> Live<StoreHealth> {
        self.db.health().reader()
    }

    /// Reports the error of a failed open to the store's health.
    pub fn found_amiss(&self, error: &StoreError) {
        self.db.health().failed(error, 0, Instant::now());
    }

    /// Registers the observer of the store's events. Only the first one is used.
    pub fn on_event(&self, on_event: OnStore) {
        self.db.health().tell(on_event);
    }

    /// Opens a file on a disk that accepts no writes: blocks can be read, and every change is
    /// [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// If it cannot even be read.
    pub async fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        let store = Store::with(place::sqlite_to_read(path, false));
        let version = match store.block_version().await {
            Ok(version) => Ok((store, version)),
            Err(error) if !place::is_at_rest(path) => Err(error),
            Err(_) => {
                let store = Store::with(place::sqlite_to_read(path, true));
                store.block_version().await.map(|version| (store, version))
            }
        };
        let (store, version) = version?;
        store.shared.heard.send_replace(version);
        Ok(store)
    }

    /// Sets whether known blocks could not be written into the store.
    pub fn set_incomplete(&self, is_incomplete: bool) {
        self.shared.is_incomplete.store(is_incomplete, Ordering::Release);
    }

    /// Whether this store lacks known blocks: no other process may rely on it then.
    pub fn is_incomplete(&self) -> bool {
        self.shared.is_incomplete.load(Ordering::Acquire)
    }

    /// Closes the database, once operations in flight are done. Clones are unusable afterwards.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

/// A list of words in the store's format, as it was before.
fn words(text: String) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A time in the store's format.
fn seconds(time: Timestamp) -> i64 {
    time.as_second()
}

/// A time limit in the store's format, rounded up to whole seconds.
fn seconds_up(time: Timestamp) -> i64 {
    time.as_second().saturating_add(i64::from(time.subsec_nanosecond() > 0))
}

#[cfg(test)]
mod tests;
