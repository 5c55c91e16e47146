//! Which client a request is from, proved by its key (RFC 7523 §2.2).

use jiff::Timestamp;

use super::caller::Caller;
use super::form::Form;
use super::refused::Refused;
use super::{Serving, away};
use crate::grant_denial::GrantDenial;
use crate::site::store::{Device, DeviceKey};
use crate::token::{Asserted, Assertion, ClientKey};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client that has proved its key. That the proof was not used before is for the store to say.
pub(super) struct Proved {
    pub device: Device,
    pub asserted: Asserted,
}

/// The client of a request that carries an assertion; `None` where there is none.
pub(super) async fn client(
    serving: &Serving,
    caller: &Caller,
    form: &Form,
    now: Timestamp,
) -> Result<Option<Proved>, Refused> {
    let assertion = match (form.get("client_assertion_type"), form.get("client_assertion")) {
        (None, None) => return Ok(None),
        (Some(ASSERTION_TYPE), Some(assertion)) => assertion,
        _ => return Err(GrantDenial::AssertionMalformed.into()),
    };
    if form.get("client_secret").is_some() {
        return Err(Refused::of(GrantDenial::RequestMalformed, "two ways to authenticate"));
    }
    let assertion = Assertion::parse(assertion)?;
    if form.get("client_id").is_some_and(|id| id != assertion.client()) {
        return Err(Refused::of(GrantDenial::AssertionMalformed, "client_id is not its sub"));
    }
    let device = serving.service.store.device(assertion.client()).await.map_err(away)?;
    let device = device.ok_or(GrantDenial::AssertionSignature)?;
    let asserted = asserted(&device, &assertion, &serving.audiences(), now)
        .map_err(|denial| Refused::from(denial).about(&device.id))?;
    // After the proof, so that nobody uses up another's turns.
    serving.limits.request(caller)?;
    serving.limits.device(&device.id).map_err(|refused| refused.about(&device.id))?;
    Ok(Some(Proved { device, asserted }))
}

/// As [`client`], where there must be one.
pub(super) async fn required(
    serving: &Serving,
    caller: &Caller,
    form: &Form,
    now: Timestamp,
) -> Result<Proved, Refused> {
    client(serving, caller, form, now).await?.ok_or_else(|| GrantDenial::AssertionMalformed.into())
}

/// Verify an assertion by the device's keys. One that waits opens nothing, but whoever has it is
/// told that it waits, and need not register again.
fn asserted(
    device: &Device,
    assertion: &Assertion<'_>,
    audiences: &[String],
    now: Timestamp,
) -> Result<Asserted, GrantDenial> {
    let active = device.keys.iter().filter(|key| key.active);
    let refused = match by_keys(active, assertion, audiences, now) {
        Err(GrantDenial::AssertionSignature) => GrantDenial::AssertionSignature,
        done => return done,
    };
    match by_keys(device.waiting(), assertion, audiences, now) {
        Ok(_) => Err(GrantDenial::DeviceNotApproved),
        Err(_) => Err(refused),
    }
}

/// Verify an assertion by some keys of a device.
pub(super) fn by_keys<'k>(
    keys: impl Iterator<Item = &'k DeviceKey>,
    assertion: &Assertion<'_>,
    audiences: &[String],
    now: Timestamp,
) -> Result<Asserted, GrantDenial> {
    let keys: Vec<ClientKey> =
        keys.filter_map(|key| ClientKey::from_jwk(key.jwk.as_bytes()).ok()).collect();
    assertion.verify(&keys, audiences, now).map(|(asserted, _)| asserted)
}

/// Whether the site gives anything to a device.
pub(super) fn is_welcome(device: &Device) -> Result<(), Refused> {
    let refused = |denial: GrantDenial| Err(Refused::from(denial).about(&device.id));
    match (device.blocked.is_some(), device.approved) {
        (true, _) => refused(GrantDenial::DeviceBlocked),
        (false, false) => refused(GrantDenial::DeviceNotApproved),
        (false, true) => Ok(()),
    }
}
