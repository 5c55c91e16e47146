//! The store's record of its own states: of its blocks, and of published bundles. It detects a store
//! that is an older copy.
//!
//! Version numbers alone do not suffice: a restored copy continues to count from its own.

use jiff::Timestamp;
use uuid::Uuid;

use super::db::Tx;
use super::{Store, StoreError, seconds};

/// The actor of recovered blocks, in the audit log and in lists.
pub const RECOVERED_BY: &str = "sitegate, after a restore";

/// The number of recorded states of the blocks. Older states are treated as known, because their
/// record is gone.
const STATES_MAX: i64 = 100_000;

/// How long published bundle versions are recorded, in seconds. A version is a time in
/// milliseconds, or higher. A gateway's client certificate is valid for half as long.
const BUNDLES_KEPT_S: i64 = 180 * 86_400;

impl Store {
    /// Whether the blocks of this store have ever been in this state. If not, it is an older copy,
    /// or another store.
    ///
    /// # Errors
    /// The database's error.
    pub async fn remembers_blocks(&self, version: i64, mark: &str) -> Result<bool, StoreError> {
        let sql = "SELECT COALESCE((SELECT MIN(version) FROM block_history), 0), \
                   EXISTS (SELECT 1 FROM block_history WHERE version = $1 AND mark = $2)";
        let rows = self.db.rows(sql, &[version.into(), mark.into()]).await?;
        let Some(row) = rows.first() else { return Ok(true) };
        let (oldest, found): (i64, bool) = (row.get(0)?, row.get(1)?);
        Ok(found || version < oldest)
    }

    /// Whether this store knows a bundle: the site has published it, or a gateway has uploaded a
    /// later one.
    ///
    /// # Errors
    /// The database's error.
    pub async fn remembers_bundle(&self, version: u64) -> Result<bool, StoreError> {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        let sql = "SELECT COALESCE((SELECT MIN(version) FROM bundle_history), 0), \
                   EXISTS (SELECT 1 FROM bundle_history WHERE version = $1), \
                   EXISTS (SELECT 1 FROM bundle_history WHERE learnt AND version > $1)";
        let rows = self.db.rows(sql, &[version.into()]).await?;
        let Some(row) = rows.first() else { return Ok(true) };
        let (oldest, found, passed): (i64, bool, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(found || passed || version < oldest)
    }
}

impl Store {
    /// Whether a gateway has uploaded this bundle, or a later one.
    ///
    /// # Errors
    /// The database's error.
    pub async fn has_learnt_bundle(&self, version: u64) -> Result<bool, StoreError> {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        let sql = "SELECT 1 FROM bundle_history WHERE learnt AND version >= $1";
        Ok(!self.db.rows(sql, &[version.into()]).await?.is_empty())
    }
}

/// Records a new state of the blocks, and whether the log has what has changed. Part of every
/// change.
pub(super) async fn remember(tx: &mut Tx, version: i64, is_logged: bool) -> Result<(), StoreError> {
    let mark = Uuid::new_v4().simple().to_string();
    let sql = "INSERT INTO block_history (version, mark, logged) VALUES ($1, $2, $3) \
               ON CONFLICT (version) DO UPDATE SET mark = excluded.mark, logged = excluded.logged";
    tx.run(sql, &[version.into(), (&mark).into(), is_logged.into()]).await?;
    let sql = "DELETE FROM block_history WHERE version < $1";
    tx.run(sql, &[(version - STATES_MAX).into()]).await.map(drop)
}

/// Deletes the record of a lifted block, because it is blocked again.
pub(super) async fn remembered(
    tx: &mut Tx,
    kind: &str,
    issuer: &str,
    name: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM forgotten_blocks WHERE kind = $1 AND issuer = $2 AND name = $3";
    tx.run(sql, &[kind.into(), issuer.into(), name.into()]).await.map(drop)
}

/// Removes records of bundles that no gateway can still have: published half a year ago.
pub(super) async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    let before = seconds(now).saturating_sub(BUNDLES_KEPT_S).saturating_mul(1_000);
    let sql = "DELETE FROM bundle_history WHERE NOT learnt AND version < $1";
    tx.run(sql, &[before.into()]).await.map(drop)
}

/// Records a published bundle.
pub(super) async fn published(tx: &mut Tx, version: i64) -> Result<(), StoreError> {
    let sql = "INSERT INTO bundle_history (version, learnt) VALUES ($1, $2)";
    tx.run(sql, &[version.into(), false.into()]).await.map(drop)
}

/// A version higher than all bundles known to this store, and than those of a copy at this time.
pub(super) async fn next_bundle(tx: &mut Tx, now: Timestamp) -> Result<i64, StoreError> {
    let sql = "SELECT COALESCE(MAX(version), 0) FROM bundle_history";
    let known: i64 = match tx.row(sql, &[]).await? {
        Some(row) => row.get(0)?,
        None => 0,
    };
    Ok((known + 1).max(seconds(now).saturating_mul(1_000)))
}
