//! The records of devices: keys, further ids, approval.
//!
//! Read-only: `register` creates and extends records, `waiting` and `block` change them.

use std::net::IpAddr;

use jiff::Timestamp;

use super::db::{Arg, DbRow, Tx};
use super::{Store, StoreError};
use crate::clock::second;
pub(super) use crate::token::block_name as name;

/// A device's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The id that the site has assigned or accepted: `GUID:` and a UUID in upper case.
    pub id: String,
    /// Its id in Microsoft Entra.
    pub entra: Option<String>,
    /// Whether it may have tokens.
    pub approved: bool,
    /// The kind of credential that it was registered with.
    pub via: Via,
    /// The time of registration, in seconds.
    pub registered: Timestamp,
    /// The time of its last renewed token or its last return, in seconds.
    pub renewed: Option<Timestamp>,
    /// The start of its block, by its id, one of its keys, its Entra id or a certificate.
    pub blocked: Option<Timestamp>,
    /// The reason of the block, if one was given.
    pub block_reason: Option<String>,
    /// Its keys, the oldest first.
    pub keys: Vec<DeviceKey>,
}

impl Device {
    /// The key with this thumbprint.
    pub fn key(&self, thumbprint: &str) -> Option<&DeviceKey> {
        self.keys.iter().find(|key| key.thumbprint == thumbprint)
    }

    /// The keys that wait for approval, the oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &DeviceKey> {
        self.keys.iter().filter(|key| !key.active)
    }

    /// Whether the device has this key, and it is active.
    pub fn has_active(&self, thumbprint: &str) -> bool {
        self.key(thumbprint).is_some_and(|key| key.active)
    }
}

/// A public key of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// Its thumbprint (RFC 7638, SHA-256, base64url).
    pub thumbprint: String,
    /// The key as a JWK (RFC 7517).
    pub jwk: String,
    /// The time of its registration, in seconds.
    pub added: Timestamp,
    /// Whether it is active. If not, it claims the device without proof, and waits for approval.
    /// All keys of an unapproved device wait.
    pub active: bool,
    /// The credential and address of its registration; `None` for keys from versions that did not
    /// record it.
    pub origin: Option<DeviceOrigin>,
}

/// The credential and address of a key's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceOrigin {
    /// The kind of credential.
    pub via: Via,
    /// The bulk registration token: its `iss` and its id.
    pub token: Option<(String, String)>,
    /// The client's id in Microsoft Entra.
    pub entra: Option<String>,
    /// The thumbprint of the client's certificate, in the form used in tokens.
    pub certificate: Option<String>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The name that the client sent; not trustworthy.
    pub client: Option<String>,
}

impl DeviceOrigin {
    /// The id of the credential: the bulk token, the Entra device or the certificate.
    pub fn voucher(&self) -> Option<&str> {
        match self.via {
            Via::BulkToken => self.token.as_ref().map(|(_, id)| id.as_str()),
            Via::Entra => self.entra.as_deref(),
            Via::Certificate => self.certificate.as_deref(),
        }
    }
}

/// The kinds of credential for a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// A bulk registration token.
    BulkToken,
    /// A token of Microsoft Entra.
    Entra,
    /// A client certificate.
    Certificate,
}

impl Via {
    const ALL: [Via; 3] = [Via::BulkToken, Via::Entra, Via::Certificate];

    /// The name in the store and in documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Via::BulkToken => "bulk-token",
            Via::Entra => "entra",
            Via::Certificate => "certificate",
        }
    }
}

/// Selects devices. The default is all.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceFilter {
    /// Only devices that wait for approval, or have a waiting key.
    pub pending: bool,
    /// Only blocked devices.
    pub blocked: bool,
}

/// The id in the form of the records: `GUID:` in any spelling becomes upper case.
pub(super) fn normal_id(id: &str) -> String {
    if id.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("guid:")) {
        id.to_ascii_uppercase()
    } else {
        id.to_owned()
    }
}

/// One row for each key of a device, or one row without a key; each row has the device's columns.
macro_rules! devices_where {
    ($condition:literal) => {
        concat!(
            "SELECT d.id, d.entra, d.approved, d.via, d.registered, d.renewed, \
             (SELECT MIN(b.at) FROM blocks b WHERE b.kind = 'device' AND b.name IN \
             (SELECT n.name FROM device_names n WHERE n.device = d.id)), \
             (SELECT b.reason FROM blocks b WHERE b.kind = 'device' AND b.name IN \
             (SELECT n.name FROM device_names n WHERE n.device = d.id) ORDER BY b.at LIMIT 1), \
             k.thumbprint, k.jwk, k.added, k.active, k.via, k.token_issuer, k.token, k.entra, \
             k.certificate, k.address, k.client \
             FROM devices d LEFT JOIN device_keys k ON k.device = d.id WHERE ",
            $condition,
            " ORDER BY d.id, k.place"
        )
    };
}

const BY_ID: &str = devices_where!("d.id = $1");
const BY_KEY: &str =
    devices_where!("d.id = (SELECT device FROM device_keys WHERE thumbprint = $1)");
const BY_ENTRA: &str = devices_where!("d.entra = $1");
const PAGE: &str = devices_where!(
    "d.id IN (SELECT p.id FROM devices p WHERE ($1 IS NULL OR p.id > $1) \
     AND (NOT $2 OR NOT p.approved OR EXISTS \
     (SELECT 1 FROM device_keys w WHERE w.device = p.id AND NOT w.active)) \
     AND (NOT $3 OR p.id IN (SELECT device FROM blocked_devices)) ORDER BY p.id LIMIT $4)"
);

impl Store {
    /// The device with this id.
    ///
    /// # Errors
    /// The database's error.
    pub async fn device(&self, id: &str) -> Result<Option<Device>, StoreError> {
        self.one_device(BY_ID, &normal_id(id)).await
    }

    /// The device that has the key with this thumbprint, active or waiting (see
    /// [`DeviceKey::active`]).
    ///
    /// # Errors
    /// The database's error.
    pub async fn device_by_key(&self, thumbprint: &str) -> Result<Option<Device>, StoreError> {
        self.one_device(BY_KEY, thumbprint).await
    }

    /// The device with this id in Microsoft Entra.
    ///
    /// # Errors
    /// The database's error.
    pub async fn device_by_entra(&self, id: &str) -> Result<Option<Device>, StoreError> {
        self.one_device(BY_ENTRA, &name(id)).await
    }

    /// Devices by id, at most `limit`, after the id `after`.
    ///
    /// # Errors
    /// The database's error.
    pub async fn devices(
        &self,
        filter: DeviceFilter,
        limit: u32,
        after: Option<&str>,
    ) -> Result<Vec<Device>, StoreError> {
        let args: [Arg<'_>; 4] =
            [after.into(), filter.pending.into(), filter.blocked.into(), i64::from(limit).into()];
        gather(&self.db.rows(PAGE, &args).await?)
    }

    async fn one_device(&self, sql: &'static str, arg: &str) -> Result<Option<Device>, StoreError> {
        Ok(gather(&self.db.rows(sql, &[arg.into()]).await?)?.into_iter().next())
    }
}

/// Loads a device in a transaction.
pub(super) async fn load(tx: &mut Tx, id: &str) -> Result<Option<Device>, StoreError> {
    Ok(gather(&tx.rows(BY_ID, &[id.into()]).await?)?.into_iter().next())
}

fn gather(rows: &[DbRow]) -> Result<Vec<Device>, StoreError> {
    let mut devices: Vec<Device> = Vec::new();
    for row in rows {
        let id: String = row.get(0)?;
        if devices.last().is_none_or(|last| last.id != id) {
            devices.push(read(id, row)?);
        }
        let thumbprint: Option<String> = row.get(8)?;
        if let (Some(thumbprint), Some(device)) = (thumbprint, devices.last_mut()) {
            device.keys.push(DeviceKey {
                thumbprint,
                jwk: row.get(9)?,
                added: second(row.get(10)?),
                // Also if an earlier version has stored it as active.
                active: device.approved && row.get::<bool>(11)?,
                origin: origin(row)?,
            });
        }
    }
    Ok(devices)
}

fn origin(row: &DbRow) -> Result<Option<DeviceOrigin>, StoreError> {
    let Some(word) = row.get::<Option<String>>(12)? else { return Ok(None) };
    let token: (Option<String>, Option<String>) = (row.get(13)?, row.get(14)?);
    let address: Option<String> = row.get(17)?;
    Ok(Some(DeviceOrigin {
        via: via(&word)?,
        token: token.0.zip(token.1),
        entra: row.get(15)?,
        certificate: row.get(16)?,
        address: address.and_then(|address| address.parse().ok()),
        client: row.get(18)?,
    }))
}

fn via(word: &str) -> Result<Via, StoreError> {
    let via = Via::ALL.into_iter().find(|via| via.as_str() == word);
    via.ok_or_else(|| StoreError::Content(format!("registered via '{word}'")))
}

fn read(id: String, row: &DbRow) -> Result<Device, StoreError> {
    let word: String = row.get(3)?;
    Ok(Device {
        id,
        entra: row.get(1)?,
        approved: row.get(2)?,
        via: via(&word)?,
        registered: second(row.get(4)?),
        renewed: row.get::<Option<i64>>(5)?.map(second),
        blocked: row.get::<Option<i64>>(6)?.map(second),
        block_reason: row.get(7)?,
        keys: Vec::new(),
    })
}
