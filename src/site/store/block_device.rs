//! Blocks a device on an operator's command: reports the effects, and the bulk tokens that the
//! device used.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::block::{Blocked, block};
use super::block_log::devices_named;
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
        let devices = devices_named(&mut tx, &name(device)).await?;
        let mut bulk_tokens = bulk_tokens(&mut tx, &devices).await?;
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
async fn bulk_tokens(tx: &mut Tx, devices: &[String]) -> Result<Vec<BulkToken>, StoreError> {
    let mut tokens = BTreeMap::new();
    for device in devices {
        let sql = "SELECT k.token, k.token_issuer, k.active FROM device_keys k \
                   JOIN devices d ON d.id = k.device WHERE k.device = $1 \
                   AND (k.active OR NOT d.approved) AND k.token IS NOT NULL";
        for row in tx.rows(sql, &[device.into()]).await? {
            let of_token: &mut BTreeSet<&str> =
                tokens.entry((row.get::<String>(0)?, row.get::<String>(1)?)).or_default();
            if row.get(2)? {
                of_token.insert(device);
            }
        }
    }
    let mut found = Vec::new();
    for ((id, issuer), own) in tokens {
        let sql = "SELECT COUNT(DISTINCT device) FROM device_keys \
                   WHERE token = $1 AND token_issuer = $2 AND active";
        let row = tx.row(sql, &[(&id).into(), (&issuer).into()]).await?;
        let all: i64 = row.map_or(Ok(0), |row| row.get(0))?;
        let others = usize::try_from(all).unwrap_or_default().saturating_sub(own.len());
        let token = TokenRef { issuer: &issuer, id: &id, issued: None };
        let blocked = token::is_blocked(tx, &token).await?;
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        found.push(BulkToken { issuer, id, others, blocked });
    }
    Ok(found)
}
