//! Keys that wait for approval: approves, rejects, and removes those that expire or lose their
//! voucher.
//!
//! Never activates a key without an approval, and never expires or rejects an active one.

use jiff::Timestamp;

use super::audit::{self, Action};
use super::db::{Arg, Tx};
use super::decide::{Approval, ApprovalVerdict, Approved, approve};
use super::device::{self, Device, DeviceKey, DeviceOrigin, normal_id};
use super::{Store, StoreError, block_log, seconds};

/// How long a key waits for approval before it is removed, in seconds.
pub const WAITING_KEPT_S: i64 = 30 * 24 * 60 * 60;

/// The outcome of a rejection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectedKeys {
    /// The key is removed.
    Yes {
        /// Whether the device was never approved and had no other key, so that its record is
        /// removed, too.
        forgotten: bool,
    },
    /// No such device.
    Unknown,
    /// The key does not wait for this device.
    NotWaiting,
}

/// A removed waiting key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The device that it claimed.
    pub device: String,
    /// Its thumbprint.
    pub key: String,
}

/// Selects waiting keys.
#[derive(Clone, Copy)]
pub(super) enum WaitingKey<'a> {
    /// With this thumbprint, or registered with this certificate or Entra id.
    Named(&'a str),
    /// Registered with this bulk token.
    ByToken { issuer: &'a str, id: &'a str },
    /// Added before this second.
    Before(i64),
}

impl Store {
    /// Approves one waiting key, and its device with it. All other waiting keys still wait.
    ///
    /// # Errors
    /// The database's error; nothing is then approved.
    pub async fn approve(
        &self,
        id: &str,
        approval: &Approval<'_>,
        actor: &str,
        now: Timestamp,
    ) -> Result<Approved, StoreError> {
        let id = normal_id(id);
        let mut tx = self.db.begin().await?;
        tx.lock_devices(&mut vec![id.clone()]).await?;
        let Some(device) = device::load(&mut tx, &id).await? else { return Ok(Approved::Unknown) };
        let sql = "SELECT 1 FROM blocks WHERE kind = 'device' AND name = $1";
        if tx.any(sql, &[approval.key.into()]).await? {
            return Ok(Approved::Blocked);
        }
        let (key, retired) = match approve(&device, approval) {
            ApprovalVerdict::Approve { key, retired } => (key, retired),
            ApprovalVerdict::Not(answer) => return Ok(answer),
        };
        tx.run("UPDATE devices SET approved = $2 WHERE id = $1", &[(&id).into(), true.into()])
            .await?;
        let sql = "UPDATE device_keys SET active = $2 WHERE thumbprint = $1";
        tx.run(sql, &[(&key.thumbprint).into(), true.into()]).await?;
        for thumbprint in &retired {
            remove(&mut tx, thumbprint).await?;
        }
        if let (false, Some(origin)) = (device.approved, &key.origin) {
            adopt(&mut tx, &id, origin).await?;
        }
        let detail = detail(&device, key, &retired);
        audit::write(&mut tx, Action::Approved, &id, &detail, actor, now).await?;
        let device = device::load(&mut tx, &id).await?;
        // A block of one of its ids may now apply to the device.
        block_log::touch_device(&mut tx, &id).await?;
        self.commit_and_tell(tx).await?;
        Ok(device.map_or(Approved::Unknown, |device| Approved::Yes { device, retired }))
    }

    /// Removes one waiting key, and the record of a device that was never approved and has no key
    /// left. The key can be registered again, unless its thumbprint is blocked.
    ///
    /// # Errors
    /// The database's error; the key then still waits.
    pub async fn reject(
        &self,
        id: &str,
        key: &str,
        actor: &str,
        now: Timestamp,
    ) -> Result<RejectedKeys, StoreError> {
        let id = normal_id(id);
        let mut tx = self.db.begin().await?;
        tx.lock_devices(&mut vec![id.clone()]).await?;
        let Some(device) = device::load(&mut tx, &id).await? else {
            return Ok(RejectedKeys::Unknown);
        };
        let Some(key) = device.waiting().find(|waiting| waiting.thumbprint == key) else {
            return Ok(RejectedKeys::NotWaiting);
        };
        remove(&mut tx, &key.thumbprint).await?;
        audit::write(&mut tx, Action::Rejected, &id, &shown(key), actor, now).await?;
        let forgotten = forget(&mut tx, &id, actor, now).await?;
        tx.commit().await?;
        Ok(RejectedKeys::Yes { forgotten })
    }
}

/// Removes waiting keys, and the records of devices that were never approved and have no key left.
pub(super) async fn drop_keys(
    tx: &mut Tx,
    which: WaitingKey<'_>,
    why: &str,
    actor: &str,
    now: Timestamp,
) -> Result<Vec<Dropped>, StoreError> {
    let (sql, args): (_, Vec<Arg<'_>>) = match which {
        WaitingKey::Named(name) => (
            "SELECT device, thumbprint FROM device_keys WHERE NOT active AND thumbprint = $1 \
             UNION SELECT device, thumbprint FROM device_keys WHERE NOT active AND certificate = $1 \
             UNION SELECT device, thumbprint FROM device_keys WHERE NOT active AND entra = $1",
            vec![name.into()],
        ),
        WaitingKey::ByToken { issuer, id } => (
            "SELECT device, thumbprint FROM device_keys \
             WHERE NOT active AND token_issuer = $1 AND token = $2",
            vec![issuer.into(), id.into()],
        ),
        WaitingKey::Before(second) => (
            "SELECT device, thumbprint FROM device_keys WHERE NOT active AND added < $1",
            vec![second.into()],
        ),
    };
    let mut found = Vec::new();
    for row in tx.rows(sql, &args).await? {
        found.push(Dropped { device: row.get(0)?, key: row.get(1)? });
    }
    let mut devices: Vec<String> = found.iter().map(|dropped| dropped.device.clone()).collect();
    tx.lock_devices(&mut devices).await?;
    let mut dropped = Vec::new();
    for gone in found {
        // The key may have been approved or removed since the query.
        if remove_waiting(tx, &gone.key).await? {
            let detail = format!("{}: {why}", gone.key);
            audit::write(tx, Action::KeyDropped, &gone.device, &detail, actor, now).await?;
            dropped.push(gone);
        }
    }
    for device in &devices {
        forget(tx, device, actor, now).await?;
    }
    Ok(dropped)
}

async fn remove_waiting(tx: &mut Tx, thumbprint: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM device_keys WHERE thumbprint = $1 AND NOT active";
    Ok(tx.run(sql, &[thumbprint.into()]).await? > 0)
}

/// Removes a key from its device.
pub(super) async fn remove(tx: &mut Tx, thumbprint: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM device_keys WHERE thumbprint = $1";
    tx.run(sql, &[thumbprint.into()]).await.map(|_| ())
}

/// Removes the record of a device that is not approved and has no key: it never had a token, and
/// its id can be claimed again.
async fn forget(
    tx: &mut Tx,
    device: &str,
    actor: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM devices d WHERE d.id = $1 AND NOT d.approved \
               AND NOT EXISTS (SELECT 1 FROM device_keys k WHERE k.device = d.id)";
    if !tx.any(sql, &[device.into()]).await? {
        return Ok(false);
    }
    tx.run("DELETE FROM device_certificates WHERE device = $1", &[device.into()]).await?;
    tx.run("DELETE FROM devices WHERE id = $1", &[device.into()]).await?;
    audit::write(tx, Action::Forgotten, device, "no key waits any more", actor, now).await?;
    Ok(true)
}

/// Keeps only the ids from the approved key's registration: those of other claimants must not
/// identify the device.
async fn adopt(tx: &mut Tx, id: &str, origin: &DeviceOrigin) -> Result<(), StoreError> {
    let sql = "UPDATE devices SET via = $2, entra = (SELECT CAST($3 AS TEXT) WHERE NOT EXISTS \
               (SELECT 1 FROM devices o WHERE o.entra = $3 AND o.id <> $1)) WHERE id = $1";
    let args = [id.into(), origin.via.as_str().into(), origin.entra.as_deref().into()];
    tx.run(sql, &args).await?;
    tx.run("DELETE FROM device_certificates WHERE device = $1", &[id.into()]).await?;
    if let Some(certificate) = &origin.certificate {
        let sql = "INSERT INTO device_certificates (thumbprint, device) VALUES ($1, $2)";
        tx.run(sql, &[certificate.into(), id.into()]).await?;
    }
    Ok(())
}

fn detail(device: &Device, key: &DeviceKey, retired: &[String]) -> String {
    let mut detail = shown(key);
    if !retired.is_empty() {
        detail.push_str(&format!("; retired {}", retired.join(" ")));
    }
    let others = device.waiting().filter(|waiting| waiting.thumbprint != key.thumbprint);
    let others: Vec<&str> = others.map(|waiting| waiting.thumbprint.as_str()).collect();
    if !others.is_empty() {
        detail.push_str(&format!("; still waiting {}", others.join(" ")));
    }
    detail
}

/// A key and its credential, for the audit log.
fn shown(key: &DeviceKey) -> String {
    let mut shown = format!("key {}", key.thumbprint);
    if let Some(origin) = &key.origin {
        shown.push_str(&format!(" via {}", origin.via.as_str()));
        if let Some(voucher) = origin.voucher() {
            shown.push_str(&format!(" {voucher}"));
        }
        if let Some(address) = origin.address {
            shown.push_str(&format!(" from {address}"));
        }
    }
    shown
}

/// Removes the keys that have waited for too long.
pub(super) async fn expire(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    let before = WaitingKey::Before(seconds(now).saturating_sub(WAITING_KEPT_S));
    let dropped = drop_keys(tx, before, "waited for thirty days", "sitegate", now).await?;
    Ok(u64::try_from(dropped.len()).unwrap_or(u64::MAX))
}
