//! Plain HTTP: what becomes of requests on an address that is no TLS. They are refused, sent to
//! https, or passed as they came, by the site system's choice.
//!
//! Pure, like the decision. In clear nobody is anybody: no token is believed, and none is asked for.

use jiff::Timestamp;

use super::decide::{self, Head, Pass, Refused, is_blocked, too_large};
use super::host;
use super::policy::{Policy, SitePolicy};
use super::upgrade::Asks;
use crate::config::PlainHttpMode;
use crate::denial::Denial;
use crate::route::{CanonicalPath, Destination, Requirement, Route, RouteTable, guarded};

/// What a site system does with plain HTTP.
#[derive(Clone, Debug)]
pub struct Clear {
    mode: PlainHttpMode,
    /// The host and the origin by https of each of its names, the first of all for whoever asked by
    /// another.
    origins: Vec<(String, String)>,
    guarded: RouteTable,
}

impl Clear {
    /// `origins` are hosts, and how each is addressed by https; `routes` all routes of the site
    /// system.
    pub fn new(mode: PlainHttpMode, origins: Vec<(String, String)>, routes: &RouteTable) -> Self {
        Clear { mode, origins, guarded: guarded(routes) }
    }
}

/// Where a request that was redirected finds the same by https: under the name that it was asked by.
pub(super) fn moved<F>(site: &SitePolicy, refused: &Refused, head: &Head<'_, F>) -> Option<String> {
    if refused.denial != Denial::ClearRedirected {
        return None;
    }
    let origins = &site.clear.as_ref()?.origins;
    let asked = host::host_of(head.host)?.trim_end_matches('.');
    let named = origins.iter().find(|(host, _)| host.eq_ignore_ascii_case(asked));
    let (_, origin) = named.or(origins.first())?;
    Some(format!("{origin}{}", std::str::from_utf8(head.target).ok()?))
}

/// Judge a request in clear. Returns the index of the route, where one was found, beside the verdict.
pub(super) fn decide<'a, F>(
    policy: &Policy,
    site: &SitePolicy,
    head: &Head<'a, F>,
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
    head: &Head<'a, F>,
    now: Timestamp,
) -> Result<Pass, Refused>
where
    F: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    let asks_for_websocket = head.asks == Asks::WebSocket;
    // Whoever checks a certificate cannot be asked to come by TLS.
    if route.destination == Destination::Publication {
        too_large(Some(route), head.body)?;
        return match asks_for_websocket {
            true => Err(Denial::RouteWebsocket.into()),
            false => Ok(Pass::of_nobody()),
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
    // Without a token it may be by Windows that a client is known to the backend: a distribution
    // point with a network access account.
    let pinned = route.requirement == Requirement::WindowsAuth || (unasked && site.windows_auth);
    Ok(Pass { forward_token: true, unasked, pinned, ..Pass::of_nobody() })
}

/// Whether a route is for nobody in clear: what holds secrets, what somebody has asked a certificate
/// for, and an operator's route to what its role's preset guards, which its token would have opened.
fn stays_closed(
    policy: &Policy,
    site: &SitePolicy,
    route: &Route,
    target: &[u8],
) -> Result<bool, Denial> {
    let secret = matches!(route.destination, Destination::TokenService | Destination::SiteServer);
    let path = CanonicalPath::parse(target, policy.uri_bytes_max)?;
    let guarded = route.requirement != Requirement::BootstrapMessage
        && route.requirement.asks_for_a_token()
        && site.clear.as_ref().is_none_or(|clear| clear.guarded.claims(&path));
    Ok(secret || guarded || route.requirement == Requirement::Certificate)
}
