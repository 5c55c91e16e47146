//! Registration: selects or creates the record of a key.
//!
//! Loads the matching records, has `decide` make a plan, and executes it, under locks on all names
//! in the request. Never adds a key to a device without proof or approval.

use super::audit::{self, Action};
use super::db::{Arg, Tx};
use super::decide::{RegisteredSoFar, Registration, RegistrationPlan, decide};
use super::device::{self, Device, Via, name, normal_id};
use super::token::{self, TokenRef};
use super::waiting::remove;
use super::{Store, StoreError, seconds};

/// The outcome of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// A new record, or a new key of a known device.
    New(Device),
    /// Nothing is new.
    Known(Device),
    /// The device or its key waits for approval.
    Pending(Device),
    /// The key waits, without proof, to become a key of a device that has others.
    Rival(Device),
}

/// Why a registration is refused.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The device is blocked by one of its ids.
    #[error("the device is blocked")]
    Blocked,
    /// The key or the Entra id belongs to another device than the claimed one.
    #[error("the key or the Entra id is that of another device")]
    KeyOfAnother,
    /// Too many keys already wait for this device, or by this certificate.
    #[error("too many keys wait already")]
    Crowded,
    /// The token is blocked.
    #[error("the registration token is blocked")]
    TokenBlocked,
    /// The token has no uses left.
    #[error("the registration token is used up")]
    TokenUsedUp,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Registers a key; docs/store.md has the rules. `actor` is the credential that vouches for it.
    ///
    /// A client that lost the response may retry: the retry changes nothing, and uses up no use of
    /// the token.
    ///
    /// # Errors
    /// Why it is refused; nothing has then changed.
    pub async fn register(
        &self,
        registration: &Registration<'_>,
        actor: &str,
    ) -> Result<Registered, RegisterError> {
        let claimed = registration.claimed.map(normal_id);
        let entra = registration.entra.map(name);
        let fresh_id = normal_id(registration.fresh_id);
        let token_id = registration.token.map(|token| name(token.id));
        let token = registration.token.zip(token_id.as_deref());
        let r = &Registration {
            claimed: claimed.as_deref(),
            entra: entra.as_deref(),
            token: token.map(|(token, id)| TokenRef { id, ..token }),
            fresh_id: &fresh_id,
            ..registration.clone()
        };
        let mut tx = self.db.begin().await?;
        let found = find(&mut tx, r).await?;
        let uses = match &r.token {
            None => None,
            Some(token) if token::is_blocked(&mut tx, token).await? => {
                return Err(RegisterError::TokenBlocked);
            }
            Some(token) => Some((token, token::uses(&mut tx, token, r.uses_max).await?)),
        };
        let plan = decide(r, &found);
        let plan = match plan {
            RegistrationPlan::Keep { device, activate: false, learn: false, .. }
                if !r.returning =>
            {
                return Ok(if device.has_active(r.thumbprint) {
                    Registered::Known(device)
                } else {
                    Registered::Pending(device)
                });
            }
            plan => plan,
        };
        if let Some((token, uses)) = uses
            && (r.via == Via::BulkToken || uses.is_limited())
            && !token::use_once(&mut tx, token, uses, r.now).await?
        {
            return Err(RegisterError::TokenUsedUp);
        }
        let (id, good, waits): (String, RegisteredAs, RegisteredAs) = match plan {
            RegistrationPlan::Refuse => return Err(RegisterError::KeyOfAnother),
            RegistrationPlan::Crowded => return Err(RegisterError::Crowded),
            RegistrationPlan::Keep { device, activate, replaces, learn } => {
                if activate {
                    activate_key(&mut tx, &device, r, replaces.as_deref(), actor).await?;
                }
                if learn {
                    learn_more(&mut tx, &device, r, actor).await?;
                }
                let good: RegisteredAs = if activate { Registered::New } else { Registered::Known };
                (device.id, good, Registered::Pending)
            }
            RegistrationPlan::Add { device, active, replaces, learn, rival } => {
                add_key(&mut tx, &device, r, active, replaces.as_deref(), actor).await?;
                if learn {
                    learn_more(&mut tx, &device, r, actor).await?;
                }
                let waits: RegisteredAs =
                    if rival { Registered::Rival } else { Registered::Pending };
                (device.id, Registered::New, waits)
            }
            RegistrationPlan::Make { id, approved } => {
                make(&mut tx, &id, r, approved, actor).await?;
                (id, Registered::New, Registered::Pending)
            }
        };
        if r.returning {
            let sql = "UPDATE devices SET renewed = $2 WHERE id = $1";
            tx.run(sql, &[(&id).into(), seconds(r.now).into()]).await?;
            audit::write(&mut tx, Action::Returned, &id, r.via.as_str(), actor, r.now).await?;
        }
        let device = device::load(&mut tx, &id).await?;
        tx.commit().await?;
        let device = device.ok_or_else(|| StoreError::Content(format!("no record of {id}")))?;
        Ok(if device.has_active(r.thumbprint) { good(device) } else { waits(device) })
    }
}

/// The outcome for an active or for a waiting key.
type RegisteredAs = fn(Device) -> Registered;

/// The matching records, locked until the end of the transaction.
async fn find(tx: &mut Tx, r: &Registration<'_>) -> Result<RegisteredSoFar, RegisterError> {
    let claim_name = r.claimed.map(name);
    let names = [claim_name.as_deref(), Some(r.thumbprint), r.entra, r.certificate, r.proven_by];
    let mut locked: Vec<&str> = names.into_iter().flatten().collect();
    if r.claimed.is_none() {
        locked.push(r.fresh_id);
    }
    tx.lock_names(&mut locked).await?;
    let sql = "SELECT 1 FROM blocks WHERE kind = 'device' AND name IN ($1, $2, $3, $4, $5)";
    let args: Vec<Arg<'_>> = names.into_iter().map(Arg::from).collect();
    if tx.any(sql, &args).await? {
        return Err(RegisterError::Blocked);
    }
    let sql = "SELECT 'claim', id FROM devices WHERE id = $1 \
               UNION ALL SELECT 'key', device FROM device_keys WHERE thumbprint = $2 \
               UNION ALL SELECT 'entra', id FROM devices WHERE entra = $3 \
               UNION ALL SELECT 'certificate', device FROM device_certificates \
               WHERE thumbprint = $4 \
               UNION ALL SELECT 'proof', device FROM device_keys WHERE thumbprint = $5";
    let args: [Arg<'_>; 5] = [
        r.claimed.into(),
        r.thumbprint.into(),
        r.entra.into(),
        r.certificate.into(),
        r.proven_by.into(),
    ];
    let mut hits: Vec<(String, String)> = Vec::new();
    for row in tx.rows(sql, &args).await? {
        hits.push((row.get(0)?, row.get(1)?));
    }
    let mut ids: Vec<String> = hits.iter().map(|(_, id)| id.clone()).collect();
    tx.lock_devices(&mut ids).await?;
    let mut devices = Vec::new();
    for id in &ids {
        devices.extend(device::load(tx, id).await?);
    }
    if devices.iter().any(|device| device.blocked.is_some()) {
        return Err(RegisterError::Blocked);
    }
    let find = |matches: &dyn Fn(&Device) -> bool| devices.iter().find(|d| matches(d)).cloned();
    // From the locked records, which may have changed since the query.
    Ok(RegisteredSoFar {
        by_claim: find(&|d| r.claimed == Some(d.id.as_str())),
        by_key: find(&|d| d.key(r.thumbprint).is_some()),
        by_entra: find(&|d| r.entra.is_some() && r.entra == d.entra.as_deref()),
        by_certificate: devices
            .iter()
            .filter(|d| hits.iter().any(|(by, id)| by == "certificate" && *id == d.id))
            .cloned()
            .collect(),
    })
}

async fn make(
    tx: &mut Tx,
    id: &str,
    r: &Registration<'_>,
    approved: bool,
    actor: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO devices (id, name, entra, approved, via, registered) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let name = name(id);
    let args = [
        id.into(),
        (&name).into(),
        r.entra.into(),
        approved.into(),
        r.via.as_str().into(),
        seconds(r.now).into(),
    ];
    tx.run(sql, &args).await?;
    insert_key(tx, id, r, approved).await?;
    insert_certificate(tx, id, r).await?;
    let action = if approved { Action::Registered } else { Action::Claimed };
    let detail = format!("via {} with key {}", r.via.as_str(), r.thumbprint);
    audit::write(tx, action, id, &detail, actor, r.now).await
}

async fn add_key(
    tx: &mut Tx,
    device: &Device,
    r: &Registration<'_>,
    active: bool,
    replaces: Option<&str>,
    actor: &str,
) -> Result<(), StoreError> {
    let mut detail = format!("{} via {}", r.thumbprint, r.via.as_str());
    if let Some(former) = replaces {
        remove(tx, former).await?;
        detail.push_str(&format!(", in the place of {former}"));
    }
    insert_key(tx, &device.id, r, active).await?;
    let action = if active { Action::KeyAdded } else { Action::KeyClaimed };
    audit::write(tx, action, &device.id, &detail, actor, r.now).await
}

async fn activate_key(
    tx: &mut Tx,
    device: &Device,
    r: &Registration<'_>,
    replaces: Option<&str>,
    actor: &str,
) -> Result<(), StoreError> {
    let mut detail = r.thumbprint.to_owned();
    if let Some(former) = replaces {
        remove(tx, former).await?;
        detail.push_str(&format!(", in the place of {former}"));
    }
    let sql = "UPDATE device_keys SET active = $2 WHERE thumbprint = $1";
    tx.run(sql, &[r.thumbprint.into(), true.into()]).await?;
    audit::write(tx, Action::KeyAdded, &device.id, &detail, actor, r.now).await
}

/// Adds the Entra id and the certificate of a client that has proved to be the device.
async fn learn_more(
    tx: &mut Tx,
    device: &Device,
    r: &Registration<'_>,
    actor: &str,
) -> Result<(), StoreError> {
    let mut learned = Vec::new();
    if let Some(entra) = r.entra.filter(|entra| Some(*entra) != device.entra.as_deref()) {
        let sql = "UPDATE devices SET entra = $2 WHERE id = $1";
        tx.run(sql, &[(&device.id).into(), entra.into()]).await?;
        learned.push(format!("Entra id {entra}"));
    }
    if insert_certificate(tx, &device.id, r).await? {
        learned.push(format!("certificate {}", r.certificate.unwrap_or_default()));
    }
    audit::write(tx, Action::Learned, &device.id, &learned.join(", "), actor, r.now).await
}

async fn insert_key(
    tx: &mut Tx,
    device: &str,
    r: &Registration<'_>,
    active: bool,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO device_keys (thumbprint, device, jwk, added, place, active, via, \
               token_issuer, token, entra, certificate, address, client) \
               SELECT $1, $2, $3, $4, COALESCE(MAX(place), 0) + 1, $5, $6, $7, $8, $9, $10, $11, \
               $12 FROM device_keys WHERE device = $2";
    let address = r.address.map(|address| address.to_canonical().to_string());
    let args: [Arg<'_>; 12] = [
        r.thumbprint.into(),
        device.into(),
        r.jwk.into(),
        seconds(r.now).into(),
        active.into(),
        r.via.as_str().into(),
        r.token.map(|token| token.issuer).into(),
        r.token.map(|token| token.id).into(),
        r.entra.into(),
        r.certificate.into(),
        address.as_deref().into(),
        r.client.into(),
    ];
    tx.run(sql, &args).await?;
    Ok(())
}

async fn insert_certificate(
    tx: &mut Tx,
    device: &str,
    r: &Registration<'_>,
) -> Result<bool, StoreError> {
    let Some(thumbprint) = r.certificate else { return Ok(false) };
    let sql = "INSERT INTO device_certificates (thumbprint, device) VALUES ($1, $2) \
               ON CONFLICT DO NOTHING";
    Ok(tx.run(sql, &[thumbprint.into(), device.into()]).await? > 0)
}
