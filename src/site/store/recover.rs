//! Recovery after a restore: detects a store that is an older copy, and keeps its lost blocks in
//! force until an operator lifts them.
//!
//! Version numbers alone do not suffice: a restored copy continues to count from its own.

use jiff::Timestamp;
use uuid::Uuid;

use super::block::{self, BlockEntry, Blocked};
use super::db::Tx;
use super::{Store, StoreError, audit, seconds};
use crate::token::Block;

/// The actor of recovered blocks, in the audit log and in lists.
pub const RECOVERED_BY: &str = "sitegate, after a restore";

/// The number of recorded states of the blocks. Older states are treated as known, because their
/// record is gone.
const STATES_MAX: i64 = 100_000;

/// How long published bundle versions are recorded, in seconds. A version is a time in
/// milliseconds, or higher. A gateway's client certificate is valid for half as long.
const BUNDLES_KEPT_S: i64 = 180 * 86_400;

/// The records that a store has lost.
#[derive(Clone, Copy, Debug)]
pub struct Lost<'a> {
    /// The lost blocks.
    pub blocks: &'a [Block],
    /// The revoked gateways.
    pub gone: &'a [String],
}

/// The source of lost blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundIn {
    /// The local record of the last blocks in force, with its version.
    Blocks(i64),
    /// A gateway's bundle, with its version.
    Bundle(u64),
}

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

    /// Blocks what this store has lost, revokes the gateways again, and records the source. Returns
    /// the number of added blocks.
    ///
    /// # Errors
    /// The database's error; nothing is then changed.
    pub async fn recover(
        &self,
        lost: Lost<'_>,
        found: FoundIn,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut ["the bundle"]).await?;
        let mut added = 0;
        for forgotten in lost.blocks {
            let before;
            let what = match forgotten {
                Block::Token { issuer, id } => Blocked::Token { issuer, id },
                Block::Device(id) => Blocked::Device(id),
                Block::User(id) => Blocked::User { issuer: None, id },
                Block::IssuedBefore { issuer, before: second } => {
                    before = crate::clock::second(*second);
                    Blocked::IssuedBefore { issuer, before }
                }
            };
            let reason = Some("not in the copy of the store that was restored");
            if is_forgotten(&mut tx, &what).await? {
                continue;
            }
            let done = block::block_unlocked(&mut tx, &what, reason, RECOVERED_BY, now).await?;
            added += usize::from(done.0);
        }
        for gateway in lost.gone {
            let reason = Some("revoked before the copy of the store was restored");
            super::gateway::revoke(&mut tx, gateway, reason, RECOVERED_BY, now).await?;
        }
        match found {
            FoundIn::Blocks(version) => {
                // Readers of the later state must see a version that is not lower.
                let sql = "UPDATE state SET block_version = $1 WHERE id = 1 AND block_version < $1";
                tx.run(sql, &[version.into()]).await?;
            }
            FoundIn::Bundle(version) => {
                let version = i64::try_from(version).unwrap_or(i64::MAX);
                let sql = "INSERT INTO bundle_history (version, learnt) VALUES ($1, $2) \
                           ON CONFLICT (version) DO UPDATE SET learnt = excluded.learnt";
                tx.run(sql, &[version.into(), true.into()]).await?;
            }
        }
        let subject = match found {
            FoundIn::Blocks(_) => "this machine's last blocks",
            FoundIn::Bundle(_) => "a gateway's bundle",
        };
        let detail = format!("{added} blocks that the restored copy does not have");
        audit::write(&mut tx, audit::Action::Restored, subject, &detail, RECOVERED_BY, now).await?;
        self.commit_and_tell(tx).await?;
        Ok(added)
    }

    /// The recovered blocks: those from before a restore that no operator has confirmed.
    ///
    /// # Errors
    /// The database's error.
    pub async fn recovered(&self) -> Result<Vec<BlockEntry>, StoreError> {
        let entries = self.blocks().await?.entries;
        Ok(entries.into_iter().filter(|entry| entry.actor == RECOVERED_BY).collect())
    }

    /// Removes the recovered blocks, because the copy is right. Returns their number.
    ///
    /// # Errors
    /// The database's error; all of them then stay.
    pub async fn forget_recovered(&self, actor: &str, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "INSERT INTO forgotten_blocks (kind, issuer, name) \
                   SELECT kind, issuer, name FROM blocks WHERE actor = $1 ON CONFLICT DO NOTHING";
        tx.run(sql, &[RECOVERED_BY.into()]).await?;
        let sql = "DELETE FROM blocks WHERE actor = $1";
        let gone = tx.run(sql, &[RECOVERED_BY.into()]).await?;
        if gone > 0 {
            let detail = format!("{gone} blocks forgotten after a restore");
            let subject = "restored copy";
            audit::write(&mut tx, audit::Action::Unblocked, subject, &detail, actor, now).await?;
            self.commit_and_tell(tx).await?;
        }
        Ok(gone)
    }
}

/// Records a new state of the blocks. Part of every change.
pub(super) async fn remember(tx: &mut Tx, version: i64) -> Result<(), StoreError> {
    let mark = Uuid::new_v4().simple().to_string();
    let sql = "INSERT INTO block_history (version, mark) VALUES ($1, $2) \
               ON CONFLICT (version) DO UPDATE SET mark = excluded.mark";
    tx.run(sql, &[version.into(), (&mark).into()]).await?;
    let sql = "DELETE FROM block_history WHERE version < $1";
    tx.run(sql, &[(version - STATES_MAX).into()]).await.map(drop)
}

/// Whether an operator has lifted this recovered block.
async fn is_forgotten(tx: &mut Tx, what: &Blocked<'_>) -> Result<bool, StoreError> {
    let (kind, issuer, name) = what.place();
    let sql = "SELECT 1 FROM forgotten_blocks WHERE kind = $1 AND issuer = $2 AND name = $3";
    tx.any(sql, &[kind.into(), (&issuer).into(), (&name).into()]).await
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
