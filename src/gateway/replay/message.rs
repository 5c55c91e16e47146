//! Judges the captured part of a request's body.

use jiff::Timestamp;

use super::{ReplayStep, RequestHead, Trail};
use crate::denial::Denial;
use crate::gateway::judge::framing::Body;
use crate::gateway::judge::message_guard::{
    self, GuardVerdict, Inspection, MessageRules, READ_BYTES_MAX,
};
use crate::gateway::judge::verdict::{Pass, Refused};
use crate::gateway::record::ctx::RequestCtx;
use crate::gateway::session;

/// The captured part of a body.
#[derive(Clone, Copy)]
pub(super) enum Captive<'a> {
    Whole(&'a [u8]),
    Begun(&'a [u8]),
    /// No readable body: not captured, or chunked.
    Nothing,
}

impl<'a> Captive<'a> {
    /// Takes the body from the bytes that follow the head, by the framing on the wire.
    pub(super) fn of(said: Body, captured: &'a [u8]) -> Self {
        match said {
            Body::Empty => Captive::Whole(&[]),
            Body::Chunked => Captive::Nothing,
            Body::Length(_) if captured.is_empty() => Captive::Nothing,
            Body::Length(length) => {
                match usize::try_from(length).ok().and_then(|length| captured.get(..length)) {
                    Some(whole) => Captive::Whole(whole),
                    None => Captive::Begun(captured),
                }
            }
        }
    }
}

/// Judges a request without a token, which only its message can admit.
pub(super) fn bootstrap_message(
    ctx: &RequestCtx,
    head: &RequestHead<'_>,
    body: Captive<'_>,
    refused: Refused,
    now: Timestamp,
    told: &mut Trail,
) -> Result<Pass, Refused> {
    let site = ctx.site.as_deref().ok_or(Denial::GatewayInternal)?;
    if matches!(head.body, Body::Length(length) if length > READ_BYTES_MAX as u64) {
        return Err(session::too_large());
    }
    let Captive::Whole(body) = body else {
        told.say(
            "message",
            "without a token a registration or a location request may pass: the body decides, and \
             the capture does not have all of it, or has it in chunks",
        );
        return Err(refused);
    };
    let pass = session::admit_newcomer(site, head.fields.iter().copied(), body, now)?;
    told.say("message", "it is for an open endpoint, and its request needs no token");
    Ok(pass)
}

/// Judges the body of an admitted request.
pub(super) fn judge_message(
    ctx: &RequestCtx,
    head: &RequestHead<'_>,
    body: Captive<'_>,
    now: Timestamp,
    told: &mut Trail,
) -> GuardVerdict {
    // A request that its message admitted has been read already.
    let known = |step: &ReplayStep| step.room == "message";
    let guard = MessageRules::of(ctx, head.method, now);
    let Some(guard) = guard.filter(|_| !told.steps.iter().any(known)) else { return Ok(None) };
    let content_type = message_guard::content_type(head.fields.iter().copied())
        .ok_or_else(message_guard::untyped)?;
    let mut inspection = Inspection::new(guard, content_type)?;
    let verdict = match body {
        Captive::Nothing => None,
        Captive::Whole(bytes) => inspection.look(bytes, true),
        Captive::Begun(bytes) => inspection.look(bytes, false),
    };
    let Some(verdict) = verdict else {
        told.say(
            "message",
            "its message is checked too, and the capture does not have all of it, or has it in \
             chunks",
        );
        return Ok(None);
    };
    let observed = verdict?;
    told.say("message", "it is well-formed, and for an endpoint that is open");
    Ok(observed)
}
