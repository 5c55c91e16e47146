//! What becomes of a registration, once it is known what the site knows. Pure: no database.

use super::device::Device;
use super::register::Registration;

/// What the site knows of what a client brings.
#[derive(Default)]
pub(super) struct Found {
    pub(super) by_claim: Option<Device>,
    pub(super) by_key: Option<Device>,
    pub(super) by_entra: Option<Device>,
    /// The devices that have been seen with the certificate.
    pub(super) by_certificate: Vec<String>,
}

/// What is to be done.
pub(super) enum Plan {
    /// The key is a device's already.
    Keep { device: Device, activate: bool, learn: bool },
    /// The key becomes a device's.
    Add { device: Device, active: bool, learn: bool },
    /// A new record.
    Make { id: String, approved: bool },
    /// The key or the Entra id is another's.
    Refuse,
}

/// Which of the records it is, and what follows. See the order in docs/store.md.
pub(super) fn decide(r: &Registration<'_>, found: &Found) -> Plan {
    let other = |device: &Device| r.claimed.is_some_and(|claimed| claimed != device.id);
    // The device's own Entra token is a proof, and so is a key that it has; a claim is none, nor is
    // a key that only waits.
    let proven = |device: &Device| {
        r.proven_by.is_some_and(|key| device.has_active(key))
            || (r.entra.is_some() && r.entra == device.entra.as_deref())
    };
    let news = |device: &Device| {
        let entra = r.entra.is_some() && r.entra != device.entra.as_deref();
        let certificate = r.certificate.is_some() && !found.by_certificate.contains(&device.id);
        entra || certificate
    };
    if let Some(device) = &found.by_key {
        let entra_of_other = found.by_entra.as_ref().is_some_and(|e| e.id != device.id);
        if other(device) || entra_of_other {
            return Plan::Refuse;
        }
        let proven = proven(device);
        let activate = proven && !device.has_active(r.thumbprint);
        return Plan::Keep { device: device.clone(), activate, learn: proven && news(device) };
    }
    if let Some(device) = &found.by_entra {
        return match other(device) {
            true => Plan::Refuse,
            false => Plan::Add { device: device.clone(), active: true, learn: news(device) },
        };
    }
    if let Some(device) = &found.by_claim {
        let proven = proven(device);
        let learn = proven && news(device);
        return Plan::Add { device: device.clone(), active: proven, learn };
    }
    match r.claimed {
        Some(id) => Plan::Make { id: id.to_owned(), approved: r.approve && r.accept_claims },
        None => Plan::Make { id: r.fresh_id.to_owned(), approved: r.approve },
    }
}
