//! Recovery after a restore: keeps the blocks that an older copy of the store has lost in force
//! until an operator lifts them.

use jiff::Timestamp;

use super::block::{self, BlockEntry, Blocked};
use super::db::Tx;
use super::history::RECOVERED_BY;
use super::{Store, StoreError, audit, block_log};
use crate::token::Block;

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
            let (before, device);
            let what = match forgotten {
                Block::Token { issuer, id } => Blocked::Token { issuer, id },
                Block::Device(id) => {
                    device = shown_id(&mut tx, id).await?;
                    Blocked::Device(&device)
                }
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
        let sql = "SELECT kind, issuer, name FROM blocks WHERE actor = $1";
        for row in tx.rows(sql, &[RECOVERED_BY.into()]).await? {
            let (kind, issuer, name): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            block_log::touch(&mut tx, block_log::kind_of(&kind)?, &issuer, &name).await?;
        }
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

/// The id of a device as administrators know it, if the name in a block is that of a device.
async fn shown_id(tx: &mut Tx, name: &str) -> Result<String, StoreError> {
    let row = tx.row("SELECT id FROM devices WHERE name = $1", &[name.into()]).await?;
    row.map_or_else(|| Ok(name.to_owned()), |row| row.get(0))
}

/// Whether an operator has lifted this recovered block.
async fn is_forgotten(tx: &mut Tx, what: &Blocked<'_>) -> Result<bool, StoreError> {
    let (kind, issuer, name) = what.place();
    let sql = "SELECT 1 FROM forgotten_blocks WHERE kind = $1 AND issuer = $2 AND name = $3";
    tx.any(sql, &[kind.into(), (&issuer).into(), (&name).into()]).await
}
