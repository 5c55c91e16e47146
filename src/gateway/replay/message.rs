//! What the body of a captured request says, as far as there is one.

use jiff::Timestamp;

use super::{RequestHead, Step, Told};
use crate::denial::Denial;
use crate::gateway::bootstrap;
use crate::gateway::ctx::RequestCtx;
use crate::gateway::decide::{Pass, Refused};
use crate::gateway::framing::Body;
use crate::gateway::guard::{self, Guard, Inspection, READ_BYTES_MAX, Verdict};

/// What there is of a body.
#[derive(Clone, Copy)]
pub(super) enum Captive<'a> {
    Whole(&'a [u8]),
    Begun(&'a [u8]),
    /// Nothing that could be read: not captured, or in chunks.
    Nothing,
}

impl<'a> Captive<'a> {
    /// What of the bytes after a head is its body, as the wire has it.
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

/// Without a token a request goes on for its message alone.
pub(super) fn bootstrap_message(
    ctx: &RequestCtx,
    (head, body): (&RequestHead<'_>, Captive<'_>),
    refused: Refused,
    now: Timestamp,
    told: &mut Told,
) -> Result<Pass, Refused> {
    let site = ctx.site.as_deref().ok_or(Denial::GatewayInternal)?;
    if matches!(head.body, Body::Length(length) if length > READ_BYTES_MAX as u64) {
        return Err(bootstrap::too_large());
    }
    let Captive::Whole(body) = body else {
        told.say(
            "message",
            "without a token a registration or a location request may go on: the body decides, \
             and it is not whole in what was captured, or in chunks",
        );
        return Err(refused);
    };
    let pass = bootstrap::admit(site, head.fields.iter().copied(), body, now)?;
    told.say(
        "message",
        "it is for an endpoint that is open to everyone, and asks what everyone may",
    );
    Ok(pass)
}

/// What the body of a request has to be that may go on otherwise.
pub(super) fn judge_message(
    ctx: &RequestCtx,
    head: &RequestHead<'_>,
    body: Captive<'_>,
    now: Timestamp,
    told: &mut Told,
) -> Verdict {
    // What was let in for its message has been read.
    let known = |step: &Step| step.room == "message";
    let guard = Guard::of(ctx, head.method, now);
    let Some(guard) = guard.filter(|_| !told.steps.iter().any(known)) else { return Ok(None) };
    let content_type =
        guard::content_type(head.fields.iter().copied()).ok_or_else(guard::untyped)?;
    let mut inspection = Inspection::new(guard, content_type)?;
    let verdict = match body {
        Captive::Nothing => None,
        Captive::Whole(bytes) => inspection.look(bytes, true),
        Captive::Begun(bytes) => inspection.look(bytes, false),
    };
    let Some(verdict) = verdict else {
        told.say(
            "message",
            "its message is judged too, and is not whole in what was captured, or in chunks",
        );
        return Ok(None);
    };
    let observed = verdict?;
    told.say("message", "it is well-formed, and for an endpoint that is open");
    Ok(observed)
}
