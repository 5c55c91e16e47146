//! A client gives up a token of its own (RFC 7009).

use axum::http::StatusCode;
use serde_json::json;

use super::caller::Caller;
use super::form::Form;
use super::proof;
use super::refused::Refused;
use super::{Granted, Serving, away};
use crate::denial::Denial;
use crate::grant_denial::GrantDenial;
use crate::site::store::{Blocked, Proof};

pub(super) async fn revoke(
    serving: &Serving,
    caller: &Caller,
    form: &Form,
) -> Result<Granted, Refused> {
    let service = &serving.service;
    let now = service.clock.now();
    let proved = proof::required(serving, caller, form, now).await?;
    let about = |refused: Refused| refused.about(&proved.device.id);
    let text = form
        .get("token")
        .ok_or_else(|| about(Refused::of(GrantDenial::RequestMalformed, "token is missing")))?;
    let proof = Proof {
        client: &proved.device.id,
        jti: &proved.asserted.jti,
        until: proved.asserted.until,
    };
    service
        .store
        .use_proof(&proof)
        .await
        .map_err(away)?
        .then_some(())
        .ok_or_else(|| about(GrantDenial::AssertionReplayed.into()))?;
    serving.limits.revocation(&proved.device.id).map_err(about)?;
    let done = |told: String| Granted { status: StatusCode::OK, body: json!({}), told };
    // RFC 7009 §2.2: what is no token, or not valid any more, is revoked already.
    let verified = match serving.verified(caller, text, now) {
        Ok(verified) => verified,
        // It may be good elsewhere: nobody must believe that it was given up.
        Err(refusal) if refusal.denial == Denial::TokenIssuer => {
            return Err(about(Refused::of(GrantDenial::SubjectToken, refusal.denial.code())));
        }
        Err(_) => return Ok(done(format!("nothing to revoke for {}", proved.device.id))),
    };
    let who = verified.identity();
    let is_own =
        serving.is_own(&verified) && who.device.as_deref() == Some(proved.device.id.as_str());
    let Some(id) = who.token_id.as_deref().filter(|_| is_own) else {
        let why = "the token is another's";
        return Err(about(Refused::of(GrantDenial::SubjectToken, why)));
    };
    let what = Blocked::Token { issuer: verified.iss(), id };
    let (reason, actor) = (Some("revoked by its client"), proved.device.id.as_str());
    service.store.block(&what, reason, actor, now).await.map_err(away)?;
    Ok(done(format!("token {id} revoked by {}", proved.device.id)))
}
