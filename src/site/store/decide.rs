//! Decides registrations and approvals from the site's records. Pure: no database access.

use std::net::IpAddr;

use jiff::Timestamp;

use super::device::{Device, DeviceKey, DeviceOrigin, Via};
use super::token::TokenRef;
use crate::rate::neighbourhood;

/// The largest number of active keys of a device; a new one replaces the oldest. Waiting keys have
/// their own limits.
pub const KEYS_MAX: usize = 8;
/// The largest number of keys with vouchers of one kind that wait for one device. The first key of
/// each bulk registration token is exempt: only the site makes such tokens, so each gets one place.
const WAITING_OF_KIND_MAX: usize = 16;
/// The limit for one bulk registration token, which many machines share.
const WAITING_OF_TOKEN_MAX: usize = 4;
/// The limit for one such token from one address (an IPv6 /64).
const WAITING_OF_ADDRESS_MAX: usize = 2;
/// The largest number of unapproved devices that one client certificate may claim.
const CLAIMS_OF_CERTIFICATE_MAX: usize = 2;

/// A client's registration request.
#[derive(Clone, Debug)]
pub struct Registration<'a> {
    /// The thumbprint of the key to register (RFC 7638).
    pub thumbprint: &'a str,
    /// The public key as a JWK.
    pub jwk: &'a str,
    /// The device id that the client claims.
    pub claimed: Option<&'a str>,
    /// The thumbprint of a former key that the client has proved in this request.
    pub proven_by: Option<&'a str>,
    /// The kind of credential.
    pub via: Via,
    /// The token that authorizes the registration. Uses of bulk registration tokens are counted;
    /// uses of others only if limited by `uses_max`.
    pub token: Option<TokenRef<'a>>,
    /// The limit of its uses, if the site did not issue it.
    pub uses_max: Option<u32>,
    /// The device's id in Microsoft Entra, from its own token.
    pub entra: Option<&'a str>,
    /// The thumbprint of its certificate, with proof of the key.
    pub certificate: Option<&'a str>,
    /// The id for a new device.
    pub fresh_id: &'a str,
    /// Whether a new device is approved automatically.
    pub approve: bool,
    /// Whether to accept a claimed id that the site does not know.
    pub accept_claims: bool,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The client's name, sanitised for logs.
    pub client: Option<&'a str>,
    /// Whether the device had lapsed, so that this is a return and not a retry.
    pub returning: bool,
    /// The current time.
    pub now: Timestamp,
}

/// An approval: the key, and the handling of the device's other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval<'a> {
    /// The thumbprint of the key.
    pub key: &'a str,
    /// Only if no other key waits: for an operator who has not named one of several.
    pub alone: bool,
    /// Whether the device's current keys stay active.
    pub keep: bool,
}

/// The outcome of an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approved {
    /// The device is approved with this key.
    Yes {
        /// The device after the approval, including the keys that still wait.
        device: Device,
        /// The thumbprints of the removed keys.
        retired: Vec<String>,
    },
    /// The key is already active.
    AlreadyApproved,
    /// No such device.
    Unknown,
    /// The device or the key is blocked; unblock it first.
    Blocked,
    /// The key does not wait for this device.
    NotWaiting,
    /// Several keys wait, and none was named.
    Several,
}

/// The records that match the client's registration.
#[derive(Default)]
pub(super) struct RegisteredSoFar {
    pub(super) by_claim: Option<Device>,
    pub(super) by_key: Option<Device>,
    pub(super) by_entra: Option<Device>,
    /// The devices that are registered with the certificate.
    pub(super) by_certificate: Vec<Device>,
}

/// The decision about a registration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RegistrationPlan {
    /// The device already has the key.
    Keep { device: Device, activate: bool, replaces: Option<String>, learn: bool },
    /// The device gets the key, which replaces the key in `replaces`. It waits unless it is active;
    /// it is a rival if the device has other keys.
    Add { device: Device, active: bool, replaces: Option<String>, learn: bool, rival: bool },
    /// A new record.
    Make { id: String, approved: bool },
    /// The key or the Entra id belongs to another device.
    Refuse,
    /// Too many keys already wait.
    Crowded,
}

/// Selects the record and decides. The order of the rules is in docs/store.md.
pub(super) fn decide(r: &Registration<'_>, found: &RegisteredSoFar) -> RegistrationPlan {
    let other = |device: &Device| r.claimed.is_some_and(|claimed| claimed != device.id);
    if let Some(device) = &found.by_key {
        let entra_of_other = found.by_entra.as_ref().is_some_and(|e| e.id != device.id);
        if other(device) || entra_of_other {
            return RegistrationPlan::Refuse;
        }
        let proven = is_proven(r, device);
        let activate = proven && !device.has_active(r.thumbprint);
        return RegistrationPlan::Keep {
            device: device.clone(),
            activate,
            replaces: activate.then(|| surplus(device)).flatten(),
            learn: proven && is_news(r, device, found),
        };
    }
    if let Some(device) = &found.by_entra {
        return if other(device) { RegistrationPlan::Refuse } else { add(r, device, found) };
    }
    if let Some(device) = &found.by_claim {
        return add(r, device, found);
    }
    // One certificate stands for one machine. A second registration with it waits for approval, in
    // one record.
    let by_certificate = r.via == Via::Certificate;
    let mut waits = found.by_certificate.iter().filter(|device| {
        by_certificate && !device.approved && device.waiting().any(|key| same_certificate(r, key))
    });
    match (r.claimed, waits.next()) {
        (None, Some(device)) => return add(r, device, found),
        (Some(_), Some(_)) if waits.count() + 1 >= CLAIMS_OF_CERTIFICATE_MAX => {
            return RegistrationPlan::Crowded;
        }
        _ => {}
    }
    let first = !by_certificate || found.by_certificate.is_empty();
    let approved = r.approve && first;
    match r.claimed {
        Some(id) => {
            RegistrationPlan::Make { id: id.to_owned(), approved: approved && r.accept_claims }
        }
        None => RegistrationPlan::Make { id: r.fresh_id.to_owned(), approved },
    }
}

/// Whether the registration proves that it is from the device: with the device's own Entra token or
/// one of its active keys. A claimed id is no proof, nor is a waiting key, nor a voucher of an
/// unapproved device.
fn is_proven(r: &Registration<'_>, device: &Device) -> bool {
    let by_key = r.proven_by.is_some_and(|key| device.has_active(key));
    let by_entra = r.entra.is_some() && r.entra == device.entra.as_deref();
    device.approved && (by_key || by_entra)
}

/// Whether the registration has an Entra id or certificate that the record lacks.
fn is_news(r: &Registration<'_>, device: &Device, found: &RegisteredSoFar) -> bool {
    let entra = r.entra.is_some() && r.entra != device.entra.as_deref();
    entra || (r.certificate.is_some() && !shows_its_certificate(device, found))
}

fn shows_its_certificate(device: &Device, found: &RegisteredSoFar) -> bool {
    found.by_certificate.iter().any(|of| of.id == device.id)
}

/// Plans a new key for the device.
fn add(r: &Registration<'_>, device: &Device, found: &RegisteredSoFar) -> RegistrationPlan {
    let active = is_proven(r, device);
    let replaces = if active { Ok(surplus(device)) } else { place_in_line(r, device, found) };
    let Ok(replaces) = replaces else { return RegistrationPlan::Crowded };
    let others = device.keys.iter().any(|key| Some(&key.thumbprint) != replaces.as_ref());
    RegistrationPlan::Add {
        device: device.clone(),
        active,
        learn: active && is_news(r, device, found),
        rival: !active && others,
        replaces,
    }
}

/// The key that a new active key replaces: the oldest active one, if the device has too many.
fn surplus(device: &Device) -> Option<String> {
    let mut active = device.keys.iter().filter(|key| key.active);
    let oldest = active.next()?;
    (active.count() + 1 >= KEYS_MAX).then(|| oldest.thumbprint.clone())
}

/// The waiting line is full.
#[derive(Debug)]
struct NoRoom;

/// The place of an unproven key: a new one, or that of an earlier key of the same machine. A key
/// never replaces another machine's, and each kind of voucher has its own places.
fn place_in_line(
    r: &Registration<'_>,
    device: &Device,
    found: &RegisteredSoFar,
) -> Result<Option<String>, NoRoom> {
    // A certificate of several devices does not stand for one machine.
    let is_shared = found.by_certificate.iter().filter(|of| of.approved).count() > 1;
    // A client with the certificate that the device was approved with always has a place.
    let is_own = device.approved && !is_shared && shows_its_certificate(device, found);
    let of_machine = |key: &&DeviceKey| match r.via {
        _ if is_own => same_certificate(r, key),
        Via::BulkToken => false,
        Via::Entra => same_entra(r, key),
        Via::Certificate => !is_shared && same_certificate(r, key),
    };
    let earlier = device.waiting().find(of_machine).map(|key| key.thumbprint.clone());
    if is_own || earlier.is_some() {
        return Ok(earlier);
    }
    let of_kind = || device.waiting().filter_map(|k| k.origin.as_ref()).filter(|o| o.via == r.via);
    let of_token = || of_kind().filter(|origin| same_token(r, origin));
    let near = r.address.map(neighbourhood);
    let of_address = of_token().filter(|origin| origin.address.map(neighbourhood) == near);
    let is_full = of_kind().count() >= WAITING_OF_KIND_MAX;
    let is_full = match (r.via, of_token().count()) {
        (Via::BulkToken, 0) => false,
        (Via::BulkToken, of_token) => {
            is_full
                || of_token >= WAITING_OF_TOKEN_MAX
                || of_address.count() >= WAITING_OF_ADDRESS_MAX
        }
        (Via::Entra | Via::Certificate, _) => is_full,
    };
    if is_full { Err(NoRoom) } else { Ok(None) }
}

/// Whether a waiting key has the same certificate.
fn same_certificate(r: &Registration<'_>, key: &DeviceKey) -> bool {
    let theirs = key.origin.as_ref().and_then(|origin| origin.certificate.as_deref());
    theirs.is_some() && r.certificate == theirs
}

/// Whether a waiting key has the same Entra device.
fn same_entra(r: &Registration<'_>, key: &DeviceKey) -> bool {
    let theirs = key.origin.as_ref().and_then(|origin| origin.entra.as_deref());
    theirs.is_some() && r.entra == theirs
}

fn same_token(r: &Registration<'_>, origin: &DeviceOrigin) -> bool {
    let theirs = origin.token.as_ref().map(|(issuer, id)| (issuer.as_str(), id.as_str()));
    r.token.map(|token| (token.issuer, token.id)) == theirs
}

/// The decision about an approval.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ApprovalVerdict<'d> {
    /// The key becomes active, and the retired ones are removed.
    Approve { key: &'d DeviceKey, retired: Vec<String> },
    /// Nothing changes.
    Not(Approved),
}

/// Decides whether a key may be approved, and which others it retires.
pub(super) fn approve<'d>(device: &'d Device, approval: &Approval<'_>) -> ApprovalVerdict<'d> {
    if device.blocked.is_some() {
        return ApprovalVerdict::Not(Approved::Blocked);
    }
    if device.has_active(approval.key) {
        return ApprovalVerdict::Not(Approved::AlreadyApproved);
    }
    let Some(key) = device.waiting().find(|key| key.thumbprint == approval.key) else {
        return ApprovalVerdict::Not(Approved::NotWaiting);
    };
    if approval.alone && device.waiting().count() > 1 {
        return ApprovalVerdict::Not(Approved::Several);
    }
    let active = device.keys.iter().filter(|key| key.active);
    let retired = if approval.keep {
        surplus(device).into_iter().collect()
    } else {
        active.map(|key| key.thumbprint.clone()).collect()
    };
    ApprovalVerdict::Approve { key, retired }
}

#[cfg(test)]
mod tests;
