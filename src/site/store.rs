//! What the site keeps: devices and their keys, ids of tokens, blocks, used assertions, and who did
//! what. In a file of its own (SQLite), or in PostgreSQL.
//!
//! Each change is one transaction with its line of audit, and on disk when it returns. Never holds
//! a token or a private key. The only place that knows sqlx.

mod audit;
mod block;
mod block_device;
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
mod place;
mod postgres;
mod probe;
mod publish;
mod recover;
mod register;
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
pub use block::{BlockEntry, Blocked, BlockedOwned, Blocks, Covered};
pub use block_device::{BulkToken, DeviceBlock};
pub use certificate::RoleCertificate;
pub use device::{Device, DeviceFilter, DeviceKey, Origin, Via};
pub use error::{StoreError, disk_takes_nothing};
pub use fault::StoreFault;
pub use follow::Follower;
pub use gateway::{Gateway, GatewayIdentity, JoinError, Joining};
pub use grant::{Grant, GrantError, Proof};
pub use health::{OnStore, StoreEvent, StoreHealth, Trouble};
pub use place::{Place, PostgresUrl};
pub use publish::Published;
pub use recover::{FoundIn, Lost, RECOVERED_BY};
pub use register::{KEYS_MAX, RegisterError, Registered, Registration};
pub use token::{IssuedToken, Swept, TokenFilter, TokenRef};
pub use waiting::{Approval, Approved, Dropped, Rejected, WAITING_KEPT_S};

use db::Db;
use health::Shown;
use place::Own;

use crate::live::{Live, Publisher, live};

/// How long a server is waited for that may start together with this process.
const PATIENCE: Duration = Duration::from_secs(5);

/// The site's store. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// How a follower gets a connection of its own.
    own: Live<Own>,
    replace_own: Mutex<Publisher<Own>>,
    /// Whether what is known to be blocked could not be written into the store.
    is_incomplete: AtomicBool,
    /// The latest version of the blocks that this process knows of.
    heard: watch::Sender<i64>,
}

impl Store {
    /// Open the store of a place: makes its file or its tables if need be, and brings them up to
    /// date. Whoever opens it at the same time waits.
    ///
    /// # Errors
    /// What stands in the way: [`StoreError::Newer`] where a later sitegate has changed the tables,
    /// [`StoreError::ReadOnly`] where nothing can be written.
    pub async fn open(place: &Place, now: Timestamp) -> Result<Self, StoreError> {
        let store = Store::open_at_start(place).await?;
        // It also shows at the start, not at the first device, whether anything can be written.
        store.record(Action::Opened, "store", place.kind(), "sitegate", now).await?;
        Ok(store)
    }

    /// As [`Store::open`], for one command: the audit tells of what it does, not of its coming.
    ///
    /// # Errors
    /// As [`Store::open`], but that nothing can be written shows only when something is.
    pub async fn open_briefly(place: &Place) -> Result<Self, StoreError> {
        Store::open_within(place, Duration::ZERO).await
    }

    /// As [`Store::open_briefly`], but for a process that may start together with its database: that
    /// is waited for a few seconds.
    ///
    /// # Errors
    /// As [`Store::open_briefly`].
    pub async fn open_at_start(place: &Place) -> Result<Self, StoreError> {
        Store::open_within(place, PATIENCE).await
    }

    async fn open_within(place: &Place, patience: Duration) -> Result<Self, StoreError> {
        let store = Store::with(place::connect(place, patience).await?);
        store.shared.heard.send_replace(store.block_version().await?);
        Ok(store)
    }

    fn with((db, own): (Db, Own)) -> Self {
        let (heard, _) = watch::channel(0);
        let (publisher, own) = live(own);
        let (replace_own, is_incomplete) = (Mutex::new(publisher), AtomicBool::new(false));
        Store { db, shared: Arc::new(Shared { own, replace_own, is_incomplete, heard }) }
    }

    /// Try to write what was opened by [`Store::open_to_read`], from now on by all clones. Whoever
    /// uses the store meanwhile is told that it does not answer.
    ///
    /// # Errors
    /// What stands in the way, as for [`Store::open`]; then it can be read as before.
    pub async fn reopen(&self, path: &Path, now: Timestamp) -> Result<(), StoreError> {
        let fault = |cause| StoreError::File { path: path.to_owned(), cause };
        place::takes_something(path).map_err(fault)?;
        // SQLite shares what it has learnt of a file among all connections of a process: as long as
        // one is left by which it cannot be written, none can write it.
        self.own(Own::Nowhere);
        self.db.close().await;
        tokio::time::sleep(follow::LOOK_EVERY * 3).await;
        let opened = Store::open(&Place::Sqlite(path.to_owned()), now).await;
        let store = match &opened {
            Ok(fresh) => fresh,
            Err(_) => &Store::open_to_read(path).await?,
        };
        self.db.replace_by(&store.db);
        if opened.is_ok() {
            self.db.health().succeeded(Shown::Writes, Instant::now());
        }
        self.own(Own::clone(&store.shared.own.load()));
        opened.map(drop)
    }

    fn own(&self, own: Own) {
        let publisher = self.shared.replace_own.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.publish(own);
    }

    /// Whether a file can be opened and read. Nothing is made beside it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn look(path: &Path) -> Result<(), StoreError> {
        // A process that has it open has its log beside it, and then it is read with that.
        let store = Store::with(place::sqlite_to_read(path, !place::has_log(path)));
        let looked = store.block_version().await.map(drop);
        store.close().await;
        looked
    }

    /// Whether a PostgreSQL database can be used, now and by this user. Nothing is changed.
    ///
    /// # Errors
    /// Why not.
    pub async fn try_out(url: &PostgresUrl) -> Result<(), StoreError> {
        place::try_out(url).await
    }

    /// How it is, at any time.
    pub fn health(&self) -> Live<StoreHealth> {
        self.db.health().reader()
    }

    /// Say what kept it from being opened as it should be.
    pub fn found_amiss(&self, error: &StoreError) {
        self.db.health().failed(error, 0, Instant::now());
    }

    /// Tell somebody what happens to it. The first who asks is told.
    pub fn on_event(&self, on_event: OnStore) {
        self.db.health().tell(on_event);
    }

    /// Open a file as it lies on a disk that takes nothing: what is blocked can be read, and every
    /// change is [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// If not even that can be done.
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

    /// Say whether what is known to be blocked could not be written into the store.
    pub fn set_incomplete(&self, is_incomplete: bool) {
        self.shared.is_incomplete.store(is_incomplete, Ordering::Release);
    }

    /// Whether something is known to be blocked that this store does not have: nobody else may go by
    /// it then.
    pub fn is_incomplete(&self) -> bool {
        self.shared.is_incomplete.load(Ordering::Acquire)
    }

    /// Let go of the database, when what is under way is done. Clones can do nothing afterwards.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

/// A time as the store has it.
fn seconds(time: Timestamp) -> i64 {
    time.as_second()
}

/// A moment before which something counts: the first whole second that is not before it.
fn seconds_up(time: Timestamp) -> i64 {
    time.as_second().saturating_add(i64::from(time.subsec_nanosecond() > 0))
}

#[cfg(test)]
mod tests;
