//! Issuing a token by command: signed with the site's key, recorded in its store, written out.

use std::num::NonZeroU32;
use std::process::ExitCode;

use jiff::SignedDuration;

use super::{ConfigArg, store};
use crate::app::find_tokens;
use crate::clock::Clock;
use crate::config::Span;
use crate::purpose::Purpose;
use crate::site::store::{Grant, Store};
use crate::token::{MintRequest, lifetime_s as usual_life};

/// A token that the operator asks for.
pub(super) struct TokenOrder<'a> {
    pub(super) purpose: Purpose,
    pub(super) device: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    pub(super) audience: &'a str,
    pub(super) lifetime: Option<Span>,
    pub(super) bound_to: Option<&'a str>,
    pub(super) scope: Option<&'a str>,
    pub(super) uses: Option<Uses>,
}

/// How often a token may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uses {
    Times(NonZeroU32),
    Unlimited,
}

/// How many registrations a bulk token opens unless said otherwise: enough for most images, and an
/// end for one that leaks with an image.
const REGISTRATIONS: u32 = 1_000;

impl Uses {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Uses::Unlimited),
            number => number
                .parse()
                .map(Uses::Times)
                .map_err(|_| "write a number from 1 on, or unlimited".to_owned()),
        }
    }

    /// As the store has it: `None` is without a limit.
    fn max(wish: Option<Self>, purpose: Purpose) -> Option<u32> {
        match (wish, purpose) {
            (Some(Uses::Times(times)), _) => Some(times.get()),
            (Some(Uses::Unlimited), _) => None,
            (None, Purpose::Registration) => Some(REGISTRATIONS),
            (None, _) => None,
        }
    }
}

/// Sign, record, and only then hand out.
pub(super) fn issue(config: &ConfigArg, wish: &TokenOrder<'_>) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let now = Clock::system().now();
    super::is_own(&loaded.config)?;
    let site = find_tokens(&loaded.config)?;
    let asked_s = wish.lifetime.map(|span| i64::try_from(span.0.as_secs())).transpose()?;
    let (usual_s, _) = usual_life(wish.purpose, wish.bound_to.is_some());
    let lifetime_s = asked_s.unwrap_or(usual_s);
    let TokenOrder { purpose, device, user, audience, bound_to, scope, .. } = *wish;
    let id = uuid::Uuid::new_v4();
    let request = MintRequest {
        purpose,
        device,
        user,
        audience,
        issuer: site.issuer(),
        hierarchy: site.hierarchy(),
        lifetime_s: Some(lifetime_s),
        bound_to,
        scope,
        origins: &[],
        id,
    };
    let token = site.mint(request, now)?;
    let grant = Grant {
        id,
        issuer: site.issuer(),
        purpose,
        device,
        user,
        audience,
        issued: now,
        expires: now.checked_add(SignedDuration::from_secs(lifetime_s))?,
        bound_to,
        scope,
        uses_max: Uses::max(wish.uses, purpose),
        proof: None,
        subject_token: None,
        renews: false,
    };
    store::with(&loaded.config, async |store: Store, _| {
        Ok(store.grant_by_operator(&grant, &store::actor()).await?)
    })?;
    super::print(&(token + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
