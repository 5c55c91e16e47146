//! The blocks in the form in which requests are checked against them: all of them, or what has
//! changed since an earlier state.

use super::block::device_is_blocked;
use super::block_log::{CHANGES_KEPT, LOGGED_MAX, OTHER};
use super::db::{DbRow, Tx};
use super::device::name;

use super::follow::VERSION;
use super::{Store, StoreError};
use crate::token::Block;

/// All blocks at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentBlocks {
    /// Higher than the version of any earlier state.
    pub version: i64,
    /// Distinguishes this state from one with the same version in another copy of the store.
    pub mark: String,
    /// The blocks, sorted. A blocked device is in it by each of its ids.
    pub blocks: Vec<Block>,
}

/// The differences between two states of the blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockChanges {
    /// The version of the later state.
    pub version: i64,
    /// Its mark, as in [`CurrentBlocks`].
    pub mark: String,
    /// Whether anything else of a bundle may have changed: gateways, certificates, keys.
    pub is_more_than_blocks: bool,
    /// What is not blocked in the later state; it may not have been in the earlier one, either.
    pub removed: Vec<Block>,
    /// What is blocked in the later state; it may have been in the earlier one, too.
    pub added: Vec<Block>,
}

impl Store {
    /// All blocks.
    ///
    /// # Errors
    /// The database's error.
    pub async fn current_blocks(&self) -> Result<CurrentBlocks, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let version = version(&mut tx).await?;
        let mark = mark(&mut tx, version).await?.unwrap_or_default();
        let mut blocks = Vec::new();
        let sql = "SELECT kind, issuer, name, before FROM blocks";
        tx.each(sql, &[], |row| {
            blocks.push(read(row)?);
            Ok(())
        })
        .await?;
        let sql = "WITH hit AS MATERIALIZED (SELECT DISTINCT device FROM blocked_devices) \
                   SELECT d.name FROM hit h JOIN devices d ON d.id = h.device \
                   UNION ALL SELECT d.entra FROM hit h JOIN devices d ON d.id = h.device \
                   WHERE d.entra IS NOT NULL \
                   UNION ALL SELECT k.thumbprint FROM hit h \
                   JOIN device_keys k ON k.device = h.device AND k.active \
                   UNION ALL SELECT c.thumbprint FROM hit h \
                   JOIN device_certificates c ON c.device = h.device";
        tx.each(sql, &[], |row| {
            blocks.push(Block::Device(row.get(0)?));
            Ok(())
        })
        .await?;
        blocks.sort_unstable();
        blocks.dedup();
        Ok(CurrentBlocks { version, mark, blocks })
    }

    /// The changes since a state of the blocks; `None` if the log does not have them all: the
    /// caller must read all blocks. With `mark`, also if this store was never in that state.
    ///
    /// # Errors
    /// The database's error.
    pub async fn block_changes(
        &self,
        since: i64,
        of: Option<&str>,
    ) -> Result<Option<BlockChanges>, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let sql = "SELECT s.block_version, now.mark, before.mark, \
                   (SELECT COUNT(*) FROM block_history WHERE version > $1 AND logged) \
                   FROM state s LEFT JOIN block_history now ON now.version = s.block_version \
                   LEFT JOIN block_history before ON before.version = $1 WHERE s.id = 1";
        let Some(row) = tx.row(sql, &[since.into()]).await? else {
            return Err(StoreError::Content("no state".into()));
        };
        let (version, logged): (i64, i64) = (row.get(0)?, row.get(3)?);
        let (mark, found): (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
        if since > version || found.is_none() || (of.is_some() && of != found.as_deref()) {
            return Ok(None);
        }
        if logged != version - since || logged > CHANGES_KEPT {
            return Ok(None);
        }
        let mark = mark.unwrap_or_default();
        let mut changes = BlockChanges { version, mark, ..BlockChanges::default() };
        if version == since {
            return Ok(Some(changes));
        }
        let sql = "SELECT DISTINCT kind, issuer, name FROM block_changes WHERE version > $1 \
                   ORDER BY kind, issuer, name LIMIT $2";
        let most = i64::try_from(LOGGED_MAX).unwrap_or(i64::MAX);
        let rows = tx.rows(sql, &[since.into(), most.into()]).await?;
        if rows.len() >= LOGGED_MAX {
            return Ok(None);
        }
        for row in &rows {
            let (kind, issuer, name): (String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            if kind == OTHER {
                changes.is_more_than_blocks = true;
                continue;
            }
            match now(&mut tx, &kind, &issuer, &name).await? {
                Some(block) => changes.added.push(block),
                None => changes.removed.push(lifted(&kind, issuer, name)?),
            }
        }
        Ok(Some(changes))
    }

    /// The number of blocks that a restored copy of the store had lost.
    ///
    /// # Errors
    /// The database's error.
    pub async fn count_recovered(&self) -> Result<usize, StoreError> {
        // The text of the index's condition: see history::RECOVERED_BY.
        let sql = "SELECT COUNT(*) FROM blocks WHERE actor = 'sitegate, after a restore'";
        let rows = self.db.rows(sql, &[]).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }
}

/// The block of this kind, issuer and name that is in force, if there is one.
async fn now(
    tx: &mut Tx,
    kind: &str,
    issuer: &str,
    named: &str,
) -> Result<Option<Block>, StoreError> {
    match kind {
        "device" => {
            let is_blocked = id_is_blocked(tx, named).await?;
            Ok(is_blocked.then(|| Block::Device(named.to_owned())))
        }
        "user" => {
            let is_blocked = user_is_blocked(tx, named).await?;
            Ok(is_blocked.then(|| Block::User(named.to_owned()).normal()))
        }
        _ => {
            let sql = "SELECT kind, issuer, name, before FROM blocks \
                       WHERE kind = $1 AND name = $2 AND issuer = $3";
            let row = tx.row(sql, &[kind.into(), named.into(), issuer.into()]).await?;
            row.as_ref().map(read).transpose()
        }
    }
}

/// Whether an id is that of a blocked device, or is blocked itself.
async fn id_is_blocked(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    if tx.any("SELECT 1 FROM blocks WHERE kind = 'device' AND name = $1", &[id.into()]).await? {
        return Ok(true);
    }
    let sql = "SELECT id FROM devices WHERE name = $1 \
               UNION SELECT id FROM devices WHERE entra = $1 \
               UNION SELECT device FROM device_keys WHERE thumbprint = $1 AND active \
               UNION SELECT device FROM device_certificates WHERE thumbprint = $1";
    for row in tx.rows(sql, &[id.into()]).await? {
        let device: String = row.get(0)?;
        if device_is_blocked(tx, &device).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a user is blocked, for any issuer and in any spelling of a GUID.
async fn user_is_blocked(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    if super::block::user_is_blocked(tx, id).await? {
        return Ok(true);
    }
    let meant = name(id);
    if uuid::Uuid::try_parse(&meant).is_err() {
        return Ok(false);
    }
    let mut is_blocked = false;
    tx.each("SELECT name FROM blocks WHERE kind = 'user'", &[], |row| {
        is_blocked |= name(&row.get::<String>(0)?) == meant;
        Ok(())
    })
    .await?;
    Ok(is_blocked)
}

async fn version(tx: &mut Tx) -> Result<i64, StoreError> {
    match tx.row(VERSION, &[]).await? {
        Some(row) => row.get(0),
        None => Err(StoreError::Content("no state".into())),
    }
}

/// The mark of a state of the blocks, if this store remembers it.
async fn mark(tx: &mut Tx, version: i64) -> Result<Option<String>, StoreError> {
    let sql = "SELECT mark FROM block_history WHERE version = $1";
    tx.row(sql, &[version.into()]).await?.map(|row| row.get(0)).transpose()
}

/// A row of kind, issuer, name and time.
fn read(row: &DbRow) -> Result<Block, StoreError> {
    let (kind, issuer, name): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let before: Option<i64> = row.get(3)?;
    Ok(match (kind.as_str(), before) {
        ("token", _) => Block::Token { issuer, id: name },
        ("device", _) => Block::Device(name),
        ("user", _) => Block::User(name).normal(),
        ("issued-before", Some(before)) => Block::IssuedBefore { issuer, before },
        _ => return Err(StoreError::Content(format!("block of kind '{kind}'"))),
    })
}

/// What is no longer blocked, for those who hold the block.
fn lifted(kind: &str, issuer: String, name: String) -> Result<Block, StoreError> {
    Ok(match kind {
        "token" => Block::Token { issuer, id: name },
        "device" => Block::Device(name),
        "user" => Block::User(name).normal(),
        "issued-before" => Block::IssuedBefore { issuer, before: 0 },
        _ => return Err(StoreError::Content(format!("block of kind '{kind}'"))),
    })
}
