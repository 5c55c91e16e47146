//! Clients without a token: reads the whole message of such a request, and admits the request if
//! its message needs no token.

use jiff::Timestamp;

use super::{Session, Stopped, prefetch};
use crate::denial::Denial;
use crate::gateway::Gateway;
use crate::gateway::exchange::Prefetched;
use crate::gateway::judge::framing::{Body, RequestHead};
use crate::gateway::judge::message_guard::{self, Inspection, MessageRules, READ_BYTES_MAX};
use crate::gateway::judge::policy::SitePolicy;
use crate::gateway::judge::verdict::{Pass, Refused};
use crate::gateway::record::ctx::RequestCtx;

/// Checks whether a refused request may be one that needs no token.
pub(in crate::gateway) fn may_be_one(refused: &Refused, ctx: &RequestCtx) -> bool {
    let route = ctx.site.as_ref().zip(ctx.route).and_then(|(site, n)| site.routes.get(n));
    refused.denial == Denial::TokenMissing
        && route.is_some_and(|route| route.requirement.takes_bootstrap_messages())
}

impl Gateway {
    /// Reads the body of a request without a token, and judges its message.
    pub(super) async fn newcomer<S: Session>(
        &self,
        session: &mut S,
        head: &RequestHead<'_>,
        ctx: &RequestCtx,
        ahead: &mut Prefetched,
    ) -> Result<Pass, Stopped> {
        let Some(site) = ctx.site.as_deref() else { return Err(Denial::GatewayInternal.into()) };
        if matches!(head.body, Body::Length(length) if length > READ_BYTES_MAX as u64) {
            return Err(too_large().into());
        }
        ahead.ask(session, head);
        let look = |body: &[u8], whole: bool| {
            if body.len() > READ_BYTES_MAX {
                Some(Err(too_large()))
            } else {
                whole.then_some(Ok(()))
            }
        };
        prefetch::read(session, ctx, ahead, look).await??;
        if ahead.bytes.is_empty() {
            return Err(missing("no message".to_owned()).into());
        }
        let fields = head.fields.iter().copied();
        Ok(admit(site, fields, &ahead.bytes, self.clock.now())?)
    }
}

/// Returns the refusal of a large message without a token.
pub(in crate::gateway) fn too_large() -> Refused {
    missing("a message this large is not checked".to_owned())
}

/// Judges whether the message admits a request with these fields and this whole body.
///
/// # Errors
/// The refusal.
pub(in crate::gateway) fn admit<'a>(
    site: &SitePolicy,
    fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    body: &[u8],
    now: Timestamp,
) -> Result<Pass, Refused> {
    let content_type = message_guard::content_type(fields).ok_or_else(message_guard::untyped)?;
    let mut inspection = Inspection::new(MessageRules::of_newcomer(site, now), content_type)?;
    let observed = inspection.look(body, true).ok_or(Denial::GatewayInternal)??;
    Ok(Pass { observed, ..Pass::of_nobody() })
}

fn missing(detail: String) -> Refused {
    Refused { detail: Some(detail), ..Denial::TokenMissing.into() }
}
