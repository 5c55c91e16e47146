//! One token for another (RFC 8693): Entra's for the site's, a client's for one that opens content
//! alone.

use jiff::Timestamp;

use super::caller::Caller;
use super::form::Form;
use super::grant::{Wish, granted, make};
use super::proof;
use super::refused::Refused;
use super::scope::{Wanted, audience};
use super::trust::Namespace;
use super::{Granted, Serving, away};
use crate::denial::Denial;
use crate::grant_denial::GrantDenial;
use crate::purpose::Purpose;
use crate::site::store::{Device, TokenRef};
use crate::token::{IssuerKind, Origin, Verified, is_identity_text};

/// The life of a token for another issuer's alone, in seconds: whoever has taken that must not
/// have made three months of an hour. Configuration Manager gives as much.
const UNPROVEN_S: i64 = 8 * 3_600;

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub(super) async fn exchange(
    serving: &Serving,
    caller: &Caller,
    form: &Form,
) -> Result<Granted, Refused> {
    let now = serving.service.clock.now();
    let subject = subject(serving, caller, form, now)?;
    let proved = proof::client(serving, caller, form, now).await?;
    let who = subject.identity();
    let about = || who.device.as_deref().or(who.user.as_deref()).unwrap_or("-").to_owned();
    let refused = |refused: Refused| refused.about(&about());
    bound(&subject, caller).map_err(refused)?;
    if ["actor_token", "actor_token_type"].iter().any(|name| form.get(name).is_some()) {
        return Err(refused(Refused::of(GrantDenial::RequestMalformed, "nobody acts for another")));
    }
    match form.get("requested_token_type") {
        None | Some(JWT | ACCESS_TOKEN) => {}
        Some(_) => {
            let why = "requested_token_type is not known";
            return Err(refused(Refused::of(GrantDenial::RequestMalformed, why)));
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
    // Whoever proves a key was counted; whoever only brings a token is counted by what it says.
    if proved.is_none() {
        serving.limits.request(caller).map_err(refused)?;
        // By what no other issuer's token can say.
        let whose = match &device {
            Some(device) => device.id.clone(),
            None => format!("{}#{}", subject.iss(), about()),
        };
        serving.limits.device(&whose).map_err(refused)?;
    }
    // Whoever proves a key speaks for that device alone.
    if proved.as_ref().is_some_and(|p| device.as_ref().is_none_or(|d| d.id != p.device.id)) {
        let why = "the client is not the device of the subject token";
        return Err(refused(Refused::of(GrantDenial::SubjectToken, why)));
    }
    let wanted = Wanted::of(form).map_err(refused)?;
    let wanted = match (who.purpose, is_site, &wanted) {
        (Purpose::Client, false, _) | (Purpose::Client, true, Wanted::Content(_)) => wanted,
        (Purpose::Content | Purpose::Media | Purpose::TaskSequence, _, Wanted::Content(_)) => {
            wanted.within(&held(&subject)).map_err(refused)?
        }
        _ => return Err(refused(GrantDenial::SubjectPurpose.into())),
    };
    let subject_token = who.token_id.as_deref().map(|id| TokenRef {
        issuer: subject.iss(),
        id,
        issued: subject.issued().and_then(|at| Timestamp::from_second(at).ok()),
    });
    // What boot media and task sequences speak for need not be registered.
    let vouched = serving.is_own(&subject) && device.is_none();
    let unrecorded = who.device.as_deref().filter(|_| vouched);
    let user = user_of(&subject, namespace).map_err(refused)?;
    let origins: Vec<Origin> = subject.origins_of_next().ok_or_else(|| {
        refused(Refused::of(GrantDenial::SubjectPurpose, "it was exchanged too often already"))
    })?;
    let left = subject.exp().saturating_sub(now.as_second());
    if left < 1 {
        return Err(refused(Refused::of(GrantDenial::SubjectToken, Denial::TokenExpired.code())));
    }
    let wish = Wish {
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
        // Content is a device's, whoever sits before it.
        Wanted::Content(_) => Wish { user: None, ..wish },
        Wanted::Client => wish,
    };
    let made = make(serving, &wish, now).await.map_err(refused)?;
    Ok(granted(made, &wish, Some(ACCESS_TOKEN)))
}

/// The subject token, good and not blocked.
fn subject(
    serving: &Serving,
    caller: &Caller,
    form: &Form,
    now: Timestamp,
) -> Result<Verified, Refused> {
    let refused = |why: &'static str| Refused::of(GrantDenial::SubjectToken, why);
    let text = form.get("subject_token").ok_or_else(|| refused("it is missing"))?;
    if !matches!(form.get("subject_token_type"), Some(JWT | ACCESS_TOKEN)) {
        return Err(refused("subject_token_type is not known"));
    }
    let verified = serving.verified(caller, text, now);
    let verified = verified.map_err(|refusal| refused(refusal.denial.code()))?;
    serving.not_blocked(&verified)?;
    Ok(verified)
}

impl Serving {
    /// As the gateway judges: a token that the operator blocked is exchanged for nothing.
    pub(super) fn not_blocked(&self, verified: &Verified) -> Result<(), Refused> {
        let list = &self.service.blocklist;
        let judged = list.peek(|list| list.judge(verified.identity(), verified.issued()));
        judged.map_err(|refusal| match refusal.denial {
            Denial::DeviceBlocked => GrantDenial::DeviceBlocked.into(),
            _ => GrantDenial::SubjectBlocked.into(),
        })
    }
}

/// RFC 8705 §3: a bound token is worth nothing without its certificate, here as elsewhere.
fn bound(subject: &Verified, caller: &Caller) -> Result<(), Refused> {
    match (&subject.identity().bound_to, &caller.proven) {
        (None, _) => Ok(()),
        (Some(wanted), Some(proven)) if wanted == proven => Ok(()),
        _ => Err(GrantDenial::SubjectBinding.into()),
    }
}

/// The record of the device that a token speaks for. A device's own token needs one; a user's may
/// come from a device that the site does not know, and is the user's alone then.
async fn device_of(
    serving: &Serving,
    subject: &Verified,
    namespace: Namespace,
) -> Result<Option<Device>, Refused> {
    let who = subject.identity();
    let Some(id) = who.device.as_deref() else { return Ok(None) };
    let store = &serving.service.store;
    let found = match namespace {
        Namespace::Site => store.device(id).await.map_err(away)?,
        Namespace::Entra => store.device_by_entra(id).await.map_err(away)?,
        // Another provider's devices are not compared with the site's: their ids could be anyone's.
        Namespace::Other => None,
    };
    match (found, who.user.is_some(), who.purpose) {
        (Some(device), ..) => Ok(Some(device)),
        (None, true, _) => Ok(None),
        // The site itself issued it, to a device that need not be registered.
        (None, false, Purpose::Media | Purpose::TaskSequence) if serving.is_own(subject) => {
            Ok(None)
        }
        (None, false, _) => Err(Refused::from(GrantDenial::DeviceUnknown).about(id)),
    }
}

/// What the site calls the user of a subject token. Outside the site's and Entra's own ids the
/// issuer is part of it: no provider can name another's user. An `iss` has no fragment (RFC 8414
/// §2), so the first `#` ends it.
fn user_of(subject: &Verified, namespace: Namespace) -> Result<Option<String>, Refused> {
    let Some(user) = subject.identity().user.as_deref() else { return Ok(None) };
    let is_guid = uuid::Uuid::try_parse(user).is_ok();
    let name = match namespace {
        Namespace::Site => user.to_owned(),
        Namespace::Entra if is_guid => user.to_owned(),
        Namespace::Entra | Namespace::Other => format!("{}#{user}", subject.iss()),
    };
    match is_identity_text(&name) {
        true => Ok(Some(name)),
        false => Err(Refused::of(GrantDenial::SubjectToken, "issuer and user id are too long")),
    }
}

/// What a subject token is limited to already.
fn held(subject: &Verified) -> Vec<String> {
    subject.identity().scopes.iter().map(ToString::to_string).collect()
}

/// A token for one site system is exchanged for that site system alone.
fn limited(subject: &Verified, wanted: String) -> Result<String, Refused> {
    let of_subject = subject.audiences();
    match of_subject.iter().any(|aud| aud.starts_with("https://") && *aud != wanted)
        && matches!(subject.issuer().kind, IssuerKind::Site { .. })
    {
        true => Err(GrantDenial::Target.into()),
        false => Ok(wanted),
    }
}
