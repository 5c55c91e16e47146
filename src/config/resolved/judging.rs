//! What a site system asks of requests besides its routes.

use std::net::SocketAddr;

use ipnet::IpNet;
use jiff::Timestamp;

/// `site_system.message_guard`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageGuard {
    /// Anything: they are not looked at.
    Off,
    /// A message with an envelope of one reading, from a client's id or none.
    Shape,
    /// Such a message of the very device that its token is for.
    Device,
}

/// `[site_system.alt_auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AltAuth {
    /// Where those are who may use the AltAuth namespaces.
    pub networks: Vec<IpNet>,
    /// The endpoints that their messages may be for.
    pub endpoints: Vec<String>,
}

/// `[site_system.plain_http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainHttp {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What becomes of requests there.
    pub mode: PlainHttpMode,
}

/// `site_system.plain_http.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttpMode {
    /// They are refused.
    Refuse,
    /// What only reads is sent to https, everything else refused.
    Redirect,
    /// They go to the backend as they came, and nobody vouches for them.
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

/// When a site system ends to observe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObserveUntil(pub Timestamp);

impl ObserveUntil {
    /// The longest time ahead that may be written.
    pub const DAYS_MAX: i64 = 90;

    /// Whether it still observes. A clock that was set back does not make it observe for longer
    /// than it could have been told to.
    pub fn holds(self, now: Timestamp) -> bool {
        let left = self.0.as_second() - now.as_second();
        (1..=Self::DAYS_MAX * 86_400).contains(&left)
    }
}
