//! Token exchange (RFC 8693): an Entra token for one of the site's, or a client token for a content
//! token.

use jiff::Timestamp;

use super::caller::Caller;
use super::form::Form;
use super::grant::{GrantOrder, granted, make};
use super::proof;
use super::refused::ServiceRefusal;
use super::scope::{WantedScope, audience};
use super::trust::Namespace;
use super::{Granted, TokenServing, away};
use crate::denial::Denial;
use crate::grant_denial::GrantDenial;
use crate::purpose::Purpose;
use crate::site::store::{Device, TokenRef};
use crate::token::{IssuerKind, TokenOrigin, Verified, is_identity_text};

/// The lifetime of a token exchanged without proof of a client key, in seconds: a thief of another
/// issuer's token must not turn an hour into three months. Configuration Manager uses the same
/// value.
const UNPROVEN_S: i64 = 8 * 3_600;

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub(super) async fn exchange(
    serving: &TokenServing,
    caller: &Caller,
    form: &Form,
) -> Result<Granted, ServiceRefusal> {
    let now = serving.service.clock.now();
    let subject = subject(serving, caller, form, now)?;
    let proved = proof::client(serving, caller, form, now).await?;
    let who = subject.identity();
    let about = || who.device.as_deref().or(who.user.as_deref()).unwrap_or("-").to_owned();
    let refused = |refused: ServiceRefusal| refused.about(&about());
    bound(&subject, caller).map_err(refused)?;
    if ["actor_token", "actor_token_type"].iter().any(|name| form.get(name).is_some()) {
        return Err(refused(ServiceRefusal::of(
            GrantDenial::RequestMalformed,
            "actor_token is not supported",
        )));
    }
    match form.get("requested_token_type") {
        None | Some(JWT | ACCESS_TOKEN) => {}
        Some(_) => {
            let why = "requested_token_type is not known";
            return Err(refused(ServiceRefusal::of(GrantDenial::RequestMalformed, why)));
        }
    }
    if !subject.issuer().exchange {
        return Err(refused(GrantDenial::SubjectIssuer.into()));
    }
    let is_site = matches!(subject.issuer().kind, IssuerKind::Site { .. });
    let namespace = serving.namespace(&subject);
    let device = device_of(serving, &subject, namespace).await?;
    if let Some(device) = &device {
        proof::is_welcome(device)?;
    }
    // A client that proves a key has been counted already; one with only a token is counted by the
    // token's subject.
    if proved.is_none() {
        serving.limits.request(caller).map_err(refused)?;
        // The key for the limit is one that no other issuer's token can have.
        let whose = match &device {
            Some(device) => device.id.clone(),
            None => format!("{}#{}", subject.iss(), about()),
        };
        serving.limits.device(&whose).map_err(refused)?;
    }
    // A client that proves a key may exchange only tokens of that device.
    if proved.as_ref().is_some_and(|p| device.as_ref().is_none_or(|d| d.id != p.device.id)) {
        let why = "the client is not the device of the subject token";
        return Err(refused(ServiceRefusal::of(GrantDenial::SubjectToken, why)));
    }
    let wanted = WantedScope::of(form).map_err(refused)?;
    let wanted = match (who.purpose, is_site, &wanted) {
        (Purpose::Client, false, _) | (Purpose::Client, true, WantedScope::Content(_)) => wanted,
        (Purpose::Content | Purpose::Media | Purpose::TaskSequence, _, WantedScope::Content(_)) => {
            wanted.within(&held(&subject)).map_err(refused)?
        }
        _ => return Err(refused(GrantDenial::SubjectPurpose.into())),
    };
    let subject_token = who.token_id.as_deref().map(|id| TokenRef {
        issuer: subject.iss(),
        id,
        issued: subject.issued().and_then(|at| Timestamp::from_second(at).ok()),
    });
    // The devices of boot media and task sequence tokens need not be registered.
    let vouched = serving.is_own(&subject) && device.is_none();
    let unrecorded = who.device.as_deref().filter(|_| vouched);
    let user = user_of(&subject, namespace).map_err(refused)?;
    let origins: Vec<TokenOrigin> = subject.origins_of_next().ok_or_else(|| {
        refused(ServiceRefusal::of(GrantDenial::SubjectPurpose, "it was exchanged too often"))
    })?;
    let left = subject.exp().saturating_sub(now.as_second());
    if left < 1 {
        return Err(refused(ServiceRefusal::of(
            GrantDenial::SubjectToken,
            Denial::TokenExpired.code(),
        )));
    }
    let wish = GrantOrder {
        wanted,
        audience: audience(serving, form).and_then(|to| limited(&subject, to)).map_err(refused)?,
        device: device.as_ref().map(|device| device.id.as_str()).or(unrecorded),
        user: user.as_deref(),
        bound_to: caller.proven.as_deref(),
        proof: proved.as_ref(),
        subject_token,
        origins: &origins,
        vouched: unrecorded.is_some(),
        lives_s_max: match (is_site, &proved) {
            (true, _) => Some(left),
            (false, Some(_)) => None,
            (false, None) => Some(left.min(UNPROVEN_S)),
        },
    };
    let wish = match wish.wanted {
        // A content token is a device's, regardless of its user.
        WantedScope::Content(_) => GrantOrder { user: None, ..wish },
        WantedScope::Client => wish,
    };
    let made = make(serving, &wish, now).await.map_err(refused)?;
    Ok(granted(made, &wish, Some(ACCESS_TOKEN)))
}

/// The verified subject token, if it is not blocked.
fn subject(
    serving: &TokenServing,
    caller: &Caller,
    form: &Form,
    now: Timestamp,
) -> Result<Verified, ServiceRefusal> {
    let refused = |why: &'static str| ServiceRefusal::of(GrantDenial::SubjectToken, why);
    let text = form.get("subject_token").ok_or_else(|| refused("it is missing"))?;
    if !matches!(form.get("subject_token_type"), Some(JWT | ACCESS_TOKEN)) {
        return Err(refused("subject_token_type is not known"));
    }
    let verified = serving.verified(caller, text, now);
    let verified = verified.map_err(|refusal| refused(refusal.denial.code()))?;
    serving.not_blocked(&verified)?;
    Ok(verified)
}

impl TokenServing {
    /// Checks the blocklist as the gateway does: a blocked token cannot be exchanged.
    pub(super) fn not_blocked(&self, verified: &Verified) -> Result<(), ServiceRefusal> {
        let list = &self.service.blocklist;
        let judged = list.peek(|list| list.judge(verified.identity(), verified.issued()));
        judged.map_err(|refusal| match refusal.denial {
            Denial::DeviceBlocked => GrantDenial::DeviceBlocked.into(),
            _ => GrantDenial::SubjectBlocked.into(),
        })
    }
}

/// RFC 8705 §3: a bound token is valid only with its certificate.
fn bound(subject: &Verified, caller: &Caller) -> Result<(), ServiceRefusal> {
    match (&subject.identity().bound_to, &caller.proven) {
        (None, _) => Ok(()),
        (Some(wanted), Some(proven)) if wanted == proven => Ok(()),
        _ => Err(GrantDenial::SubjectBinding.into()),
    }
}

/// The record of the device that a token names. A device token needs one; a user token may be from
/// an unknown device, and then speaks only for the user.
async fn device_of(
    serving: &TokenServing,
    subject: &Verified,
    namespace: Namespace,
) -> Result<Option<Device>, ServiceRefusal> {
    let who = subject.identity();
    let Some(id) = who.device.as_deref() else { return Ok(None) };
    let store = &serving.service.store;
    let found = match namespace {
        Namespace::Site => store.device(id).await.map_err(away)?,
        Namespace::Entra => store.device_by_entra(id).await.map_err(away)?,
        // Devices of other providers are not looked up: their ids could equal ids of the site's
        // devices.
        Namespace::Other => None,
    };
    match (found, who.user.is_some(), who.purpose) {
        (Some(device), ..) => Ok(Some(device)),
        (None, true, _) => Ok(None),
        // The site itself issued it, for a device that need not be registered.
        (None, false, Purpose::Media | Purpose::TaskSequence) if serving.is_own(subject) => {
            Ok(None)
        }
        (None, false, _) => Err(ServiceRefusal::from(GrantDenial::DeviceUnknown).about(id)),
    }
}

/// The site's name for the user of a subject token. Except for ids of the site and Entra, the name
/// includes the issuer, so that no provider can name another provider's user. An `iss` has no
/// fragment (RFC 8414 §2), so the first `#` ends it.
fn user_of(subject: &Verified, namespace: Namespace) -> Result<Option<String>, ServiceRefusal> {
    let Some(user) = subject.identity().user.as_deref() else { return Ok(None) };
    let is_guid = uuid::Uuid::try_parse(user).is_ok();
    let name = match namespace {
        Namespace::Site => user.to_owned(),
        Namespace::Entra if is_guid => user.to_owned(),
        Namespace::Entra | Namespace::Other => format!("{}#{user}", subject.iss()),
    };
    if is_identity_text(&name) {
        Ok(Some(name))
    } else {
        Err(ServiceRefusal::of(GrantDenial::SubjectToken, "issuer and user id are too long"))
    }
}

/// The scopes of a subject token.
fn held(subject: &Verified) -> Vec<String> {
    subject.identity().scopes.iter().map(ToString::to_string).collect()
}

/// A token for one site system can be exchanged only for a token for that site system.
fn limited(subject: &Verified, wanted: String) -> Result<String, ServiceRefusal> {
    let of_subject = subject.audiences();
    if of_subject.iter().any(|aud| aud.starts_with("https://") && *aud != wanted)
        && matches!(subject.issuer().kind, IssuerKind::Site { .. })
    {
        Err(GrantDenial::Target.into())
    } else {
        Ok(wanted)
    }
}
