//! The request rules of a site system besides its routes.

use std::net::SocketAddr;

use ipnet::IpNet;
use jiff::Timestamp;

/// `site_system.message_guard`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageGuard {
    /// Messages are not checked.
    Off,
    /// A message must have an envelope with an unambiguous reading, with a client's id or none.
    Shape,
    /// The same, and the message must come from the device of the token.
    Device,
}

/// The requirements on messages: `message_guard`, `message_endpoints`, `message_requests`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePolicy {
    /// The check of messages from clients with a token.
    pub guard: MessageGuard,
    /// The endpoints that messages may target; `None` for any.
    pub endpoints: Option<Vec<String>>,
    /// The request types that messages without a token may carry, besides those that clients
    /// without a token need.
    pub requests: Vec<String>,
}

/// `[site_system.alt_auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AltAuth {
    /// The networks that may use the AltAuth namespaces.
    pub networks: Vec<IpNet>,
    /// The endpoints that messages there may address.
    pub endpoints: Vec<String>,
}

/// `[site_system.plain_http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainHttp {
    /// Its listen address.
    pub listen: SocketAddr,
    /// The handling of requests there.
    pub mode: PlainHttpMode,
}

/// `site_system.plain_http.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttpMode {
    /// They are refused.
    Refuse,
    /// Read-only requests are redirected to https, all others refused.
    Redirect,
    /// They are forwarded to the backend unchanged, without authentication.
    Pass,
}

impl PlainHttpMode {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            PlainHttpMode::Refuse => "refuse",
            PlainHttpMode::Redirect => "redirect",
            PlainHttpMode::Pass => "pass",
        }
    }
}

/// The end of observe mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObserveUntil(pub Timestamp);

impl ObserveUntil {
    /// The maximum time ahead, in days.
    pub const DAYS_MAX: i64 = 90;

    /// Whether the site system still observes. A clock that was set back does not extend it beyond
    /// the maximum.
    pub fn holds(self, now: Timestamp) -> bool {
        let left = self.0.as_second() - now.as_second();
        (1..=Self::DAYS_MAX * 86_400).contains(&left)
    }
}
