//! Blocks a device on an operator's command: reports the effects, and the bulk tokens that the
//! device used.

use jiff::Timestamp;

use super::block::{Blocked, block};
use super::db::Tx;
use super::device::name;

use super::token::{self, TokenRef};
use super::waiting::Dropped;
use super::{Store, StoreError};

/// The effects of blocking a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceBlock {
    /// Whether the device was not yet blocked.
    pub changed: bool,
    /// The recorded devices that it blocks.
    pub devices: Vec<String>,
    /// The waiting keys that it removed.
    pub dropped: Vec<Dropped>,
    /// The bulk registration tokens that the blocked devices used, as far as known.
    pub bulk_tokens: Vec<BulkToken>,
}

/// A bulk registration token that a device used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkToken {
    /// Its `iss`.
    pub issuer: String,
    /// Its id.
    pub id: String,
    /// The number of other devices that registered a key with it.
    pub others: u32,
    /// Whether it is blocked.
    pub blocked: bool,
}

impl Store {
    /// Blocks a device like [`Store::block`], and reports the effects; with `tokens`, also blocks
    /// the bulk registration tokens that the device used.
    ///
    /// # Errors
    /// The database's error; nothing is then blocked.
    pub async fn block_device(
        &self,
        device: &str,
        tokens: bool,
        reason: Option<&str>,
        actor: &str,
        now: Timestamp,
    ) -> Result<DeviceBlock, StoreError> {
        let mut tx = self.db.begin().await?;
        let what = Blocked::Device(device);
        let (changed, mut dropped) = block(&mut tx, &what, reason, actor, now).await?;
        let block_name = name(device);
        let sql = "SELECT device FROM blocked_devices WHERE block = $1 ORDER BY device";
        let rows = tx.rows(sql, &[(&block_name).into()]).await?;
        let devices = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<String>, _>>()?;
        let mut bulk_tokens = bulk_tokens(&mut tx, &block_name).await?;
        let mut any = changed || !dropped.is_empty();
        for token in bulk_tokens.iter_mut().filter(|token| tokens && !token.blocked) {
            let what = Blocked::Token { issuer: &token.issuer, id: &token.id };
            dropped.extend(block(&mut tx, &what, reason, actor, now).await?.1);
            token.blocked = true;
            any = true;
        }
        if any {
            self.commit_and_tell(tx).await?;
        }
        Ok(DeviceBlock { changed, devices, dropped, bulk_tokens })
    }
}

/// The bulk registration tokens used for the keys of the blocked devices. Keys that wait to become
/// an approved device's are left out: an attacker may have brought them.
async fn bulk_tokens(tx: &mut Tx, block: &str) -> Result<Vec<BulkToken>, StoreError> {
    let sql = "SELECT k.token_issuer, k.token, \
               (SELECT COUNT(DISTINCT o.device) FROM device_keys o WHERE o.token = k.token \
               AND o.token_issuer = k.token_issuer AND o.active \
               AND o.device NOT IN (SELECT device FROM blocked_devices WHERE block = $1)) \
               FROM device_keys k JOIN devices d ON d.id = k.device \
               WHERE (k.active OR NOT d.approved) AND k.token IS NOT NULL AND k.device IN (SELECT device FROM blocked_devices WHERE block = $1) \
               GROUP BY k.token_issuer, k.token ORDER BY k.token";
    let mut found = Vec::new();
    for row in tx.rows(sql, &[block.into()]).await? {
        let (issuer, id): (String, String) = (row.get(0)?, row.get(1)?);
        let token = TokenRef { issuer: &issuer, id: &id, issued: None };
        let blocked = token::is_blocked(tx, &token).await?;
        let others = u32::try_from(row.get::<i64>(2)?).unwrap_or(u32::MAX);
        found.push(BulkToken { issuer, id, others, blocked });
    }
    Ok(found)
}
