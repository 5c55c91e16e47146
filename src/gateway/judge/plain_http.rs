//! Judges requests over plain HTTP. They are refused, redirected to https, or passed unchanged, as
//! the site system's configuration says.
//!
//! Pure, like the decision. Plain HTTP authenticates no client: no token is believed or required.

use jiff::Timestamp;

use super::decide::{self, is_blocked, too_large};
use super::head::JudgedHead;
use super::host;
use super::policy::{Policy, SitePolicy};
use super::upgrade::Asks;
use super::verdict::{Pass, Refused};
use crate::config::PlainHttpMode;
use crate::denial::Denial;
use crate::route::{CanonicalPath, Destination, Requirement, Route};

/// Returns the https URL for a redirected request, under the host name that it asked for.
pub(in crate::gateway) fn moved<F>(
    site: &SitePolicy,
    refused: &Refused,
    head: &JudgedHead<'_, F>,
) -> Option<String> {
    if refused.denial != Denial::ClearRedirected {
        return None;
    }
    let origins = &site.clear.as_ref()?.origins;
    let asked = host::host_of(head.host)?.trim_end_matches('.');
    let named = origins.iter().find(|(host, _)| host.eq_ignore_ascii_case(asked));
    let (_, origin) = named.or(origins.first())?;
    Some(format!("{origin}{}", std::str::from_utf8(head.target).ok()?))
}

/// Judges a request over plain HTTP. Returns the route's index, if a route was found, and the
/// verdict.
pub(in crate::gateway) fn decide<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    head: &JudgedHead<'a, F>,
    now: Timestamp,
) -> (Option<usize>, Result<Pass, Refused>)
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    match decide::find(policy, site, head) {
        Ok((place, route)) => (Some(place), judge(policy, site, route, head, now)),
        Err((place, denial)) => (place, Err(denial.into())),
    }
}

fn judge<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    route: &Route,
    head: &JudgedHead<'a, F>,
    now: Timestamp,
) -> Result<Pass, Refused>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    let asks_for_websocket = head.asks == Asks::WebSocket;
    // Clients fetch these to check a certificate, so they cannot be required to use TLS.
    if route.destination == Destination::Publication {
        too_large(Some(route), head.body)?;
        return if asks_for_websocket {
            Err(Denial::RouteWebsocket.into())
        } else {
            Ok(Pass::of_nobody())
        };
    }
    match site.clear.as_ref().map(|clear| clear.mode) {
        Some(PlainHttpMode::Pass) => {}
        Some(PlainHttpMode::Redirect) if matches!(head.method, "GET" | "HEAD") => {
            return Err(Denial::ClearRedirected.into());
        }
        _ => return Err(Denial::ClearRefused.into()),
    }
    if asks_for_websocket {
        return Err(Denial::RouteWebsocket.into());
    }
    if stays_closed(policy, site, route, head.target)? {
        return Err(Denial::ClearRefused.into());
    }
    too_large(Some(route), head.body)?;
    decide::takes_query(site, route, head)?;
    is_blocked(policy, site, head.fields.clone(), now)?;
    let unasked = route.requirement.asks_for_a_token();
    match route.requirement {
        Requirement::AltAuth => decide::alt_auth(site, head.client)?,
        _ if unasked => {}
        _ => route.judge(None, site.windows_auth)?,
    }
    // Without a token, the backend may identify the client by Windows authentication: a
    // distribution point with a network access account.
    let pinned = route.requirement == Requirement::WindowsAuth || (unasked && site.windows_auth);
    Ok(Pass { forward_token: true, unasked, pinned, ..Pass::of_nobody() })
}

/// Checks whether a route is closed over plain HTTP. These are routes to secrets, routes that
/// require a certificate, and an operator's route into a namespace that a preset guards, which a
/// token would have opened.
fn stays_closed(
    policy: &Policy,
    site: &SitePolicy,
    route: &Route,
    target: &[u8],
) -> Result<bool, Denial> {
    let secret = matches!(route.destination, Destination::TokenService | Destination::SiteServer);
    let path = CanonicalPath::parse(target, policy.limits.uri_bytes)?;
    let guarded = route.requirement != Requirement::BootstrapMessage
        && route.requirement.asks_for_a_token()
        && site.clear.as_ref().is_none_or(|clear| clear.guarded.claims(&path));
    Ok(secret || guarded || route.requirement == Requirement::Certificate)
}
