//! The client credentials grant for a client that has proved its key (RFC 6749 §4.4), and the
//! common path for issuing any token: sign, record in the store, return.

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::caller::Caller;
use super::form::Form;
use super::proof::{self, Proved};
use super::refused::ServiceRefusal;
use super::scope::{WantedScope, audience};
use super::{Granted, TokenServing, away};
use crate::grant_denial::GrantDenial;
use crate::purpose::Purpose;
use crate::site::store::{Device, Grant, GrantError, Proof, TokenFilter, TokenRef};
use crate::token::{MintRequest, TokenOrigin, lifetime_s};

/// The content of a token, after all checks of the request.
pub(super) struct GrantOrder<'a> {
    pub wanted: WantedScope,
    pub audience: String,
    pub device: Option<&'a str>,
    pub user: Option<&'a str>,
    /// The certificate to bind it to.
    pub bound_to: Option<&'a str>,
    /// The assertion that came with the request.
    pub proof: Option<&'a Proved>,
    /// The token that is exchanged for it.
    pub subject_token: Option<TokenRef<'a>>,
    /// Whether the site has no record of the device, but the exchanged token, which the operator
    /// issued, vouches for it.
    pub vouched: bool,
    /// The tokens that it is made from.
    pub origins: &'a [TokenOrigin],
    /// The longest lifetime, in seconds, if shorter than the default.
    pub lives_s_max: Option<i64>,
}

pub(super) async fn client_credentials(
    serving: &TokenServing,
    caller: &Caller,
    form: &Form,
) -> Result<Granted, ServiceRefusal> {
    let now = serving.service.clock.now();
    let proved = proof::required(serving, caller, form, now).await?;
    let about = |refused: ServiceRefusal| refused.about(&proved.device.id);
    proof::is_welcome(&proved.device)?;
    not_lapsed(serving, &proved.device, now).await.map_err(about)?;
    let wish = GrantOrder {
        wanted: WantedScope::of(form).map_err(about)?,
        audience: audience(serving, form).map_err(about)?,
        device: Some(&proved.device.id),
        user: None,
        bound_to: caller.proven.as_deref(),
        proof: Some(&proved),
        subject_token: None,
        vouched: false,
        origins: &[],
        lives_s_max: None,
    };
    let made = make(serving, &wish, now).await.map_err(about)?;
    Ok(granted(made, &wish, None))
}

/// A device that was away for too long must register again: the key of an old machine is then
/// worthless to a finder.
async fn not_lapsed(
    serving: &TokenServing,
    device: &Device,
    now: Timestamp,
) -> Result<(), ServiceRefusal> {
    if has_lapsed(serving, device, now).await? {
        Err(GrantDenial::DeviceLapsed.into())
    } else {
        Ok(())
    }
}

/// Whether a device's last token ended longer ago than the allowed absence. A device without a
/// token, or one that has just registered again, gets the lifetime of the shortest client token.
pub(super) async fn has_lapsed(
    serving: &TokenServing,
    device: &Device,
    now: Timestamp,
) -> Result<bool, ServiceRefusal> {
    let filter = TokenFilter {
        device: Some(&device.id),
        purpose: Some(Purpose::Client),
        ..TokenFilter::default()
    };
    let last = serving.service.store.tokens(filter, 1, None).await.map_err(away)?;
    let after = |at: Timestamp, s| at.saturating_add(SignedDuration::from_secs(s)).unwrap_or(at);
    let (shortest, _) = lifetime_s(Purpose::Client, false);
    let seen = after(device.renewed.unwrap_or(device.registered), shortest);
    let ends = last.first().map_or(seen, |token| token.expires.max(seen));
    Ok(now > after(ends, serving.service.params.return_grace_s))
}

/// A token that is signed and recorded in the store.
pub(super) struct Made {
    token: String,
    id: Uuid,
    lives_s: i64,
}

pub(super) async fn make(
    serving: &TokenServing,
    wish: &GrantOrder<'_>,
    now: Timestamp,
) -> Result<Made, ServiceRefusal> {
    let service = &serving.service;
    let purpose = match wish.wanted {
        WantedScope::Client => Purpose::Client,
        WantedScope::Content(_) => Purpose::Content,
    };
    // A content token is short-lived and limited, and distribution points need not ask for
    // certificates.
    let bound_to = wish.bound_to.filter(|_| purpose == Purpose::Client);
    let (usual_s, _) = lifetime_s(purpose, bound_to.is_some());
    // An exchange never extends a token's lifetime beyond its default.
    let lives_s = wish.lives_s_max.map_or(usual_s, |max| usual_s.min(max));
    let (id, scope) = (Uuid::new_v4(), wish.wanted.claim());
    let request = MintRequest {
        purpose,
        device: wish.device,
        user: wish.user,
        audience: &wish.audience,
        issuer: service.tokens.issuer(),
        hierarchy: service.tokens.hierarchy(),
        lifetime_s: Some(lives_s),
        bound_to,
        scope: scope.as_deref(),
        origins: wish.origins,
        id,
    };
    let token = service.tokens.mint(request, now).map_err(|error| {
        use crate::token::MintError::{Device, Envelope, Lifetime, Scope, User};
        match error {
            Scope => ServiceRefusal::from(GrantDenial::Scope),
            Device | User | Envelope | Lifetime { .. } => {
                ServiceRefusal::of(GrantDenial::SubjectPurpose, error.to_string())
            }
            error => {
                tracing::error!(target: "sitegate::token_service", %error, "a token was not made");
                GrantDenial::SigningFailed.into()
            }
        }
    })?;
    let grant = Grant {
        id,
        issuer: service.tokens.issuer(),
        purpose,
        device: wish.device,
        user: wish.user,
        audience: &wish.audience,
        issued: now,
        expires: now.saturating_add(SignedDuration::from_secs(lives_s)).unwrap_or(now),
        bound_to,
        scope: scope.as_deref(),
        uses_max: None,
        proof: wish.proof.map(|proved| Proof {
            client: &proved.device.id,
            jti: &proved.asserted.jti,
            until: proved.asserted.until,
        }),
        subject_token: wish.subject_token,
        renews: purpose == Purpose::Client && wish.proof.is_some(),
    };
    let actor = wish.device.or(wish.user).unwrap_or("-");
    let recorded = if wish.vouched {
        service.store.grant_by_operator(&grant, actor).await
    } else {
        service.store.grant(&grant, actor).await
    };
    recorded.map_err(|error| match error {
        GrantError::Replayed => GrantDenial::AssertionReplayed.into(),
        GrantError::Blocked => GrantDenial::DeviceBlocked.into(),
        GrantError::NotApproved => GrantDenial::DeviceNotApproved.into(),
        GrantError::UnknownDevice => GrantDenial::DeviceUnknown.into(),
        GrantError::SubjectBlocked => GrantDenial::SubjectBlocked.into(),
        GrantError::SubjectUsedUp => GrantDenial::SubjectUsedUp.into(),
        GrantError::Store(error) => away(error),
    })?;
    Ok(Made { token, id, lives_s })
}

/// The token response (RFC 6749 §5.1, RFC 8693 §2.2.1).
pub(super) fn granted(made: Made, wish: &GrantOrder<'_>, issued_type: Option<&str>) -> Granted {
    let scope = wish.wanted.told();
    let whose = wish.device.or(wish.user).unwrap_or("-");
    let origin = wish.origins.first().map_or_else(String::new, |origin| {
        format!(", from {} of {}", origin.subject().unwrap_or("-"), origin.iss)
    });
    let told = format!("{scope} token {} for {whose}, {} s{origin}", made.id, made.lives_s);
    let mut body = json!({
        "access_token": made.token,
        "token_type": "Bearer",
        "expires_in": made.lives_s,
        "scope": scope,
    });
    if let (Some(kind), Some(members)) = (issued_type, body.as_object_mut()) {
        members.insert("issued_token_type".to_owned(), kind.into());
    }
    Granted { status: StatusCode::OK, body, told }
}
