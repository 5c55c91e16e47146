//! Token revocation (RFC 7009): a client revokes one of its own tokens.

use axum::http::StatusCode;
use serde_json::json;

use super::caller::Caller;
use super::form::Form;
use super::proof;
use super::refused::ServiceRefusal;
use super::{Granted, TokenServing, away};
use crate::denial::Denial;
use crate::grant_denial::GrantDenial;
use crate::site::store::{Blocked, Proof};

pub(super) async fn revoke(
    serving: &TokenServing,
    caller: &Caller,
    form: &Form,
) -> Result<Granted, ServiceRefusal> {
    let service = &serving.service;
    let now = service.clock.now();
    let proved = proof::required(serving, caller, form, now).await?;
    let about = |refused: ServiceRefusal| refused.about(&proved.device.id);
    let text = form.get("token").ok_or_else(|| {
        about(ServiceRefusal::of(GrantDenial::RequestMalformed, "token is missing"))
    })?;
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
    // RFC 7009 §2.2: an invalid or expired token counts as already revoked.
    let verified = match serving.verified(caller, text, now) {
        Ok(verified) => verified,
        // It may be valid elsewhere, so the client must not believe that it is revoked.
        Err(refusal) if refusal.denial == Denial::TokenIssuer => {
            return Err(about(ServiceRefusal::of(
                GrantDenial::SubjectToken,
                refusal.denial.code(),
            )));
        }
        Err(_) => return Ok(done(format!("nothing to revoke for {}", proved.device.id))),
    };
    let who = verified.identity();
    let is_own =
        serving.is_own(&verified) && who.device.as_deref() == Some(proved.device.id.as_str());
    let Some(id) = who.token_id.as_deref().filter(|_| is_own) else {
        let why = "the token is another's";
        return Err(about(ServiceRefusal::of(GrantDenial::SubjectToken, why)));
    };
    let what = Blocked::Token { issuer: verified.iss(), id };
    let (reason, actor) = (Some("revoked by its client"), proved.device.id.as_str());
    service.store.block(&what, reason, actor, now).await.map_err(away)?;
    Ok(done(format!("token {id} revoked by {}", proved.device.id)))
}
