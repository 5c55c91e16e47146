//! A store that is an older copy: how that is noticed, and how blocks that it does not have stay in
//! force until somebody says that they need not.
//!
//! Versions alone do not tell: a copy that was written to counts on from where it was.

use jiff::Timestamp;
use uuid::Uuid;

use super::block::{self, BlockEntry, Blocked};
use super::db::Tx;
use super::{Store, StoreError, audit, seconds};
use crate::token::Block;

/// Who has blocked what a restored copy did not have, in the audit and in lists.
pub const RECOVERED_BY: &str = "sitegate, after a restore";

/// How many states of the blocks are remembered: who knows an older one cannot be told from one who
/// knows another store's.
const STATES_MAX: i64 = 100_000;

/// How long it is remembered that a bundle was published, in seconds. A number of a bundle is a time in
/// milliseconds, or higher. A gateway's certificate is good for half as long.
const BUNDLES_KEPT_S: i64 = 180 * 86_400;

/// What a store has forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Lost<'a> {
    /// What was blocked.
    pub blocks: &'a [Block],
    /// The gateways that were revoked.
    pub gone: &'a [String],
}

/// Where blocks were found that the store does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundIn {
    /// On this machine: the last that was in force here, with its version.
    Blocks(i64),
    /// At a gateway: its bundle, with its version.
    Bundle(u64),
}

impl Store {
    /// Whether the blocks of this store have ever been in this state. If not, it is an older copy, or
    /// another store.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn remembers_blocks(&self, version: i64, mark: &str) -> Result<bool, StoreError> {
        let sql = "SELECT COALESCE((SELECT MIN(version) FROM block_history), 0), \
                   EXISTS (SELECT 1 FROM block_history WHERE version = $1 AND mark = $2)";
        let rows = self.db.rows(sql, &[version.into(), mark.into()]).await?;
        let Some(row) = rows.first() else { return Ok(true) };
        let (oldest, found): (i64, bool) = (row.get(0)?, row.get(1)?);
        Ok(found || version < oldest)
    }

    /// Whether this store knows of a bundle: that the site published it, or that a gateway has shown
    /// one that came after it.
    ///
    /// # Errors
    /// What the database answers.
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

    /// Block what this store has forgotten, revoke the gateways again, and remember where that was
    /// found. Says how many blocks were not here.
    ///
    /// # Errors
    /// What the database answers; nothing of it is done then.
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
                // Whoever has read a later state must see that there is a newer one.
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

    /// What is blocked only because it was before a copy was restored.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn recovered(&self) -> Result<Vec<BlockEntry>, StoreError> {
        let entries = self.blocks().await?.entries;
        Ok(entries.into_iter().filter(|entry| entry.actor == RECOVERED_BY).collect())
    }

    /// Forget what was recovered: the copy is right. Says how many blocks that was.
    ///
    /// # Errors
    /// What the database answers; all of it stays blocked then.
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

/// Remember that the blocks are in a new state. Part of every change of them.
pub(super) async fn remember(tx: &mut Tx, version: i64) -> Result<(), StoreError> {
    let mark = Uuid::new_v4().simple().to_string();
    let sql = "INSERT INTO block_history (version, mark) VALUES ($1, $2) \
               ON CONFLICT (version) DO UPDATE SET mark = excluded.mark";
    tx.run(sql, &[version.into(), (&mark).into()]).await?;
    let sql = "DELETE FROM block_history WHERE version < $1";
    tx.run(sql, &[(version - STATES_MAX).into()]).await.map(drop)
}

/// Whether somebody has said that this need not be blocked, after a copy was restored.
async fn is_forgotten(tx: &mut Tx, what: &Blocked<'_>) -> Result<bool, StoreError> {
    let (kind, issuer, name) = what.place();
    let sql = "SELECT 1 FROM forgotten_blocks WHERE kind = $1 AND issuer = $2 AND name = $3";
    tx.any(sql, &[kind.into(), (&issuer).into(), (&name).into()]).await
}

/// Something is blocked again that somebody had said to forget.
pub(super) async fn remembered(
    tx: &mut Tx,
    kind: &str,
    issuer: &str,
    name: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM forgotten_blocks WHERE kind = $1 AND issuer = $2 AND name = $3";
    tx.run(sql, &[kind.into(), issuer.into(), name.into()]).await.map(drop)
}

/// Remove what no gateway can have any more: bundles that were published half a year ago.
pub(super) async fn sweep(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    let before = seconds(now).saturating_sub(BUNDLES_KEPT_S).saturating_mul(1_000);
    let sql = "DELETE FROM bundle_history WHERE NOT learnt AND version < $1";
    tx.run(sql, &[before.into()]).await.map(drop)
}

/// Remember that a bundle was published.
pub(super) async fn published(tx: &mut Tx, version: i64) -> Result<(), StoreError> {
    let sql = "INSERT INTO bundle_history (version, learnt) VALUES ($1, $2)";
    tx.run(sql, &[version.into(), false.into()]).await.map(drop)
}

/// A number that no bundle has had that this store knows of, and none of a copy at this time.
pub(super) async fn next_bundle(tx: &mut Tx, now: Timestamp) -> Result<i64, StoreError> {
    let sql = "SELECT COALESCE(MAX(version), 0) FROM bundle_history";
    let known: i64 = match tx.row(sql, &[]).await? {
        Some(row) => row.get(0)?,
        None => 0,
    };
    Ok((known + 1).max(seconds(now).saturating_mul(1_000)))
}
