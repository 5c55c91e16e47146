//! What becomes of a registration or an approval, once it is known what the site knows. Pure: no
//! database.

use super::device::{Device, DeviceKey, Origin, Via};
use super::register::{KEYS_MAX, Registration};
use super::waiting::{Approval, Approved};
use crate::rate::neighbourhood;

/// How many keys by vouchers of one kind wait for one device. The first by a bulk registration token
/// waits beside them: nobody but the site makes such tokens, so each has a place of its own.
const WAITING_OF_KIND_MAX: usize = 16;
/// How many of them by one bulk registration token: many machines share one.
const WAITING_OF_TOKEN_MAX: usize = 4;
/// How many of those from one address (an IPv6 /64).
const WAITING_OF_ADDRESS_MAX: usize = 2;
/// How many devices that only wait may be claimed by one client certificate.
const CLAIMS_OF_CERTIFICATE_MAX: usize = 2;

/// What the site knows of what a client brings.
#[derive(Default)]
pub(super) struct Found {
    pub(super) by_claim: Option<Device>,
    pub(super) by_key: Option<Device>,
    pub(super) by_entra: Option<Device>,
    /// The devices that have been registered with the certificate.
    pub(super) by_certificate: Vec<Device>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The key is a device's already.
    Keep { device: Device, activate: bool, replaces: Option<String>, learn: bool },
    /// The key becomes a device's, in the place of another that it `replaces`. It waits unless it is
    /// active; it is a rival if other keys are there.
    Add { device: Device, active: bool, replaces: Option<String>, learn: bool, rival: bool },
    /// A new record.
    Make { id: String, approved: bool },
    /// The key or the Entra id is another's.
    Refuse,
    /// Too many keys wait already.
    Crowded,
}

/// Which of the records it is, and what follows. See the order in docs/store.md.
pub(super) fn decide(r: &Registration<'_>, found: &Found) -> Plan {
    let other = |device: &Device| r.claimed.is_some_and(|claimed| claimed != device.id);
    if let Some(device) = &found.by_key {
        let entra_of_other = found.by_entra.as_ref().is_some_and(|e| e.id != device.id);
        if other(device) || entra_of_other {
            return Plan::Refuse;
        }
        let proven = is_proven(r, device);
        let activate = proven && !device.has_active(r.thumbprint);
        return Plan::Keep {
            device: device.clone(),
            activate,
            replaces: activate.then(|| surplus(device)).flatten(),
            learn: proven && is_news(r, device, found),
        };
    }
    if let Some(device) = &found.by_entra {
        return match other(device) {
            true => Plan::Refuse,
            false => add(r, device, found),
        };
    }
    if let Some(device) = &found.by_claim {
        return add(r, device, found);
    }
    // One certificate is one machine. What it brings beside its device waits, in one record.
    let by_certificate = r.via == Via::Certificate;
    let mut waits = found.by_certificate.iter().filter(|device| {
        by_certificate && !device.approved && device.waiting().any(|key| same_certificate(r, key))
    });
    match (r.claimed, waits.next()) {
        (None, Some(device)) => return add(r, device, found),
        (Some(_), Some(_)) if waits.count() + 1 >= CLAIMS_OF_CERTIFICATE_MAX => {
            return Plan::Crowded;
        }
        _ => {}
    }
    let first = !by_certificate || found.by_certificate.is_empty();
    let approved = r.approve && first;
    match r.claimed {
        Some(id) => Plan::Make { id: id.to_owned(), approved: approved && r.accept_claims },
        None => Plan::Make { id: r.fresh_id.to_owned(), approved },
    }
}

/// The device's own Entra token is a proof, and so is a key that it works with; a claim is none, nor
/// is a key that only waits, nor what a device was registered with that nobody has approved.
fn is_proven(r: &Registration<'_>, device: &Device) -> bool {
    let by_key = r.proven_by.is_some_and(|key| device.has_active(key));
    let by_entra = r.entra.is_some() && r.entra == device.entra.as_deref();
    device.approved && (by_key || by_entra)
}

/// Whether the client brings more than is known of the device.
fn is_news(r: &Registration<'_>, device: &Device, found: &Found) -> bool {
    let entra = r.entra.is_some() && r.entra != device.entra.as_deref();
    entra || (r.certificate.is_some() && !shows_its_certificate(device, found))
}

fn shows_its_certificate(device: &Device, found: &Found) -> bool {
    found.by_certificate.iter().any(|of| of.id == device.id)
}

/// A key that the device does not have yet.
fn add(r: &Registration<'_>, device: &Device, found: &Found) -> Plan {
    let active = is_proven(r, device);
    let replaces = match active {
        true => Ok(surplus(device)),
        false => place_in_line(r, device, found),
    };
    let Ok(replaces) = replaces else { return Plan::Crowded };
    let others = device.keys.iter().any(|key| Some(&key.thumbprint) != replaces.as_ref());
    Plan::Add {
        device: device.clone(),
        active,
        learn: active && is_news(r, device, found),
        rival: !active && others,
        replaces,
    }
}

/// The key that gives way to another active one: the oldest active one, if there are too many.
fn surplus(device: &Device) -> Option<String> {
    let mut active = device.keys.iter().filter(|key| key.active);
    let oldest = active.next()?;
    (active.count() + 1 >= KEYS_MAX).then(|| oldest.thumbprint.clone())
}

/// The line has no place for another.
#[derive(Debug)]
struct Full;

/// Where a key waits that has no proof: in a place of its own, or in that of an earlier one of the
/// same machine. Nobody takes the place of another's, and no kind of voucher those of another kind.
fn place_in_line(
    r: &Registration<'_>,
    device: &Device,
    found: &Found,
) -> Result<Option<String>, Full> {
    // A certificate that several devices have is no machine's.
    let is_shared = found.by_certificate.iter().filter(|of| of.approved).count() > 1;
    // Whoever shows the certificate that the device was approved with has a place of its own,
    // however many others wait.
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
    match is_full {
        true => Err(Full),
        false => Ok(None),
    }
}

/// Whether a key came with the same certificate.
fn same_certificate(r: &Registration<'_>, key: &DeviceKey) -> bool {
    let theirs = key.origin.as_ref().and_then(|origin| origin.certificate.as_deref());
    theirs.is_some() && r.certificate == theirs
}

/// Whether a key came by the same Entra device.
fn same_entra(r: &Registration<'_>, key: &DeviceKey) -> bool {
    let theirs = key.origin.as_ref().and_then(|origin| origin.entra.as_deref());
    theirs.is_some() && r.entra == theirs
}

fn same_token(r: &Registration<'_>, origin: &Origin) -> bool {
    let theirs = origin.token.as_ref().map(|(issuer, id)| (issuer.as_str(), id.as_str()));
    r.token.map(|token| (token.issuer, token.id)) == theirs
}

/// What becomes of an approval.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'d> {
    /// The key becomes the device's, and the retired ones cease to be.
    Approve { key: &'d DeviceKey, retired: Vec<String> },
    /// Nothing changes.
    Not(Approved),
}

/// Whether a key may be approved, and which others go.
pub(super) fn approve<'d>(device: &'d Device, approval: &Approval<'_>) -> Verdict<'d> {
    if device.blocked.is_some() {
        return Verdict::Not(Approved::Blocked);
    }
    if device.has_active(approval.key) {
        return Verdict::Not(Approved::AlreadyApproved);
    }
    let Some(key) = device.waiting().find(|key| key.thumbprint == approval.key) else {
        return Verdict::Not(Approved::NotWaiting);
    };
    if approval.alone && device.waiting().count() > 1 {
        return Verdict::Not(Approved::Several);
    }
    let active = device.keys.iter().filter(|key| key.active);
    let retired = match approval.keep {
        true => surplus(device).into_iter().collect(),
        false => active.map(|key| key.thumbprint.clone()).collect(),
    };
    Verdict::Approve { key, retired }
}

#[cfg(test)]
mod tests;
