//! The block of a device as a person types it: what it did, and which bulk tokens let the device in.

use jiff::Timestamp;

use super::block::{Blocked, block};
use super::db::Tx;
use super::device::name;
use super::token::{self, TokenRef};
use super::waiting::Dropped;
use super::{Store, StoreError};

/// What blocking a device did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceBlock {
    /// Whether it was not blocked before.
    pub changed: bool,
    /// The devices with a record that are blocked by it.
    pub devices: Vec<String>,
    /// The waiting keys that were dropped.
    pub dropped: Vec<Dropped>,
    /// The bulk registration tokens by which the blocked devices came, as far as is known.
    pub bulk_tokens: Vec<BulkToken>,
}

/// A bulk registration token by which a device came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkToken {
    /// Its `iss`.
    pub issuer: String,
    /// Its own id.
    pub id: String,
    /// How many other devices have a key that came by it.
    pub others: u32,
    /// Whether it is blocked.
    pub blocked: bool,
}

impl Store {
    /// Block a device, as [`Store::block`], and tell what that did; with `tokens`, the bulk
    /// registration tokens that let it in as well.
    ///
    /// # Errors
    /// What the database answers; nothing is blocked then.
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

/// The bulk registration tokens by which the keys of the devices came that a block is about, but
/// for those that wait to be an approved device's: strangers may have brought them.
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
