//! Client authentication: identifies the client of a request by its assertion (RFC 7523 §2.2).

use jiff::Timestamp;

use super::caller::Caller;
use super::form::Form;
use super::refused::ServiceRefusal;
use super::{TokenServing, away};
use crate::grant_denial::GrantDenial;
use crate::site::store::{Device, DeviceKey};
use crate::token::{Asserted, Assertion, ClientKey};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client that has proved its key. The store detects a replay of the proof.
pub(super) struct Proved {
    pub device: Device,
    pub asserted: Asserted,
}

/// The client of a request with an assertion; `None` if there is none.
pub(super) async fn client(
    serving: &TokenServing,
    caller: &Caller,
    form: &Form,
    now: Timestamp,
) -> Result<Option<Proved>, ServiceRefusal> {
    let assertion = match (form.get("client_assertion_type"), form.get("client_assertion")) {
        (None, None) => return Ok(None),
        (Some(ASSERTION_TYPE), Some(assertion)) => assertion,
        _ => return Err(GrantDenial::AssertionMalformed.into()),
    };
    if form.get("client_secret").is_some() {
        return Err(ServiceRefusal::of(GrantDenial::RequestMalformed, "two ways to authenticate"));
    }
    let assertion = Assertion::parse(assertion)?;
    if form.get("client_id").is_some_and(|id| id != assertion.client()) {
        return Err(ServiceRefusal::of(
            GrantDenial::AssertionMalformed,
            "client_id is not its sub",
        ));
    }
    let device = serving.service.store.device(assertion.client()).await.map_err(away)?;
    let device = device.ok_or(GrantDenial::AssertionSignature)?;
    let asserted = asserted(&device, &assertion, &serving.audiences(), now)
        .map_err(|denial| ServiceRefusal::from(denial).about(&device.id))?;
    // After the proof, so that a client cannot exhaust another's limit.
    serving.limits.request(caller)?;
    serving.limits.device(&device.id).map_err(|refused| refused.about(&device.id))?;
    Ok(Some(Proved { device, asserted }))
}

/// Like [`client`], but the assertion is required.
pub(super) async fn required(
    serving: &TokenServing,
    caller: &Caller,
    form: &Form,
    now: Timestamp,
) -> Result<Proved, ServiceRefusal> {
    client(serving, caller, form, now).await?.ok_or_else(|| GrantDenial::AssertionMalformed.into())
}

/// Verifies an assertion with the device's keys. A key that waits for approval grants nothing, but
/// its holder gets a specific refusal and need not register again.
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

/// Verifies an assertion with some keys of a device.
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

/// Checks that the device is approved and not blocked.
pub(super) fn is_welcome(device: &Device) -> Result<(), ServiceRefusal> {
    let refused = |denial: GrantDenial| Err(ServiceRefusal::from(denial).about(&device.id));
    match (device.blocked.is_some(), device.approved) {
        (true, _) => refused(GrantDenial::DeviceBlocked),
        (false, false) => refused(GrantDenial::DeviceNotApproved),
        (false, true) => Ok(()),
    }
}
