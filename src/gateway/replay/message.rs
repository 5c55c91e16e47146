//! What the body of a captured request says, as far as there is one.

use super::{RequestHead, Step, Told};
use crate::gateway::bootstrap;
use crate::gateway::ctx::RequestCtx;
use crate::gateway::decide::{Pass, Refused};
use crate::gateway::framing::Body;
use crate::gateway::guard::{self, FIRST_PART_BYTES_MAX, Guard};
use crate::message::{Envelope, Fault, FirstPart, envelope};

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
    head: &RequestHead<'_>,
    body: Captive<'_>,
    refused: Refused,
    told: &mut Told,
) -> Result<Pass, Refused> {
    if matches!(head.body, Body::Length(length) if length > bootstrap::MESSAGE_BYTES_MAX as u64) {
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
    let pass = bootstrap::admit(head.fields.iter().copied(), body)?;
    told.say("message", "it is for an endpoint that is open to everyone");
    Ok(pass)
}

/// What the body of a request with a token has to be.
pub(super) fn judge_message(
    ctx: &RequestCtx,
    head: &RequestHead<'_>,
    body: Captive<'_>,
    told: &mut Told,
) -> Result<(), Refused> {
    // What was let in for its message has been read.
    let known = |step: &Step| step.room == "message";
    let Some(guard) = Guard::of(ctx, head.method).filter(|_| !told.steps.iter().any(known)) else {
        return Ok(());
    };
    let content_type =
        guard::content_type(head.fields.iter().copied()).ok_or_else(guard::untyped)?;
    let read = match body {
        Captive::Nothing => None,
        Captive::Whole(bytes) => first_part(content_type, bytes, true),
        Captive::Begun(bytes) => first_part(content_type, bytes, false),
    };
    let Some(read) = read else {
        told.say(
            "message",
            "its first part is judged too, and is not whole in what was captured, or in chunks",
        );
        return Ok(());
    };
    guard.judge(read)?;
    told.say("message", "its envelope is well-formed, and for an endpoint that is open");
    Ok(())
}

/// The envelope of the first part, as both lanes read it; `None` where more is needed to say.
fn first_part(content_type: &[u8], body: &[u8], whole: bool) -> Option<Result<Envelope, Fault>> {
    let mut part = match FirstPart::new(content_type) {
        Ok(part) => part,
        Err(fault) => return Some(Err(fault)),
    };
    match part.end(body) {
        Err(fault) => Some(Err(fault)),
        Ok(Some(end)) => Some(envelope(content_type, body.get(..end).unwrap_or_default())),
        Ok(None) if whole && body.len() < FIRST_PART_BYTES_MAX => {
            Some(envelope(content_type, body))
        }
        Ok(None) if body.len() >= FIRST_PART_BYTES_MAX => Some(Err(Fault::Size)),
        Ok(None) => None,
    }
}
