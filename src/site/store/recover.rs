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
        let sql = "SELECT COALESCE(MIN(version), 0), \
                   COUNT(CASE WHEN version = $1 AND mark = $2 THEN 1 END) FROM block_history";
        let rows = self.db.rows(sql, &[version.into(), mark.into()]).await?;
        let Some(row) = rows.first() else { return Ok(true) };
        let (oldest, found): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(found > 0 || version < oldest)
    }

    /// Whether this store knows of a bundle: that the site published it, or that a gateway has shown
    /// one that came after it.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn remembers_bundle(&self, version: u64) -> Result<bool, StoreError> {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        let sql = "SELECT COALESCE(MIN(version), 0), \
                   COUNT(CASE WHEN version = $1 OR (learnt AND version > $1) THEN 1 END) \
                   FROM bundle_history";
        let rows = self.db.rows(sql, &[version.into()]).await?;
        let Some(row) = rows.first() else { return Ok(true) };
        let (oldest, found): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(found > 0 || version < oldest)
    }

    /// Block what this store has forgotten, and remember where it was found. Says how many of these
    /// were not blocked here.
    ///
    /// # Errors
    /// What the database answers; nothing of it is done then.
    pub async fn recover(
        &self,
        forgotten: &[Block],
        found: FoundIn,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut ["the bundle"]).await?;
        let mut added = 0;
        for forgotten in forgotten {
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
            added += usize::from(block::block(&mut tx, &what, reason, RECOVERED_BY, now).await?.0);
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
