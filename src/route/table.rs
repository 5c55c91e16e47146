//! The table of routes: which one covers a path, and what it requires.
//!
//! Denies by default. Knows no token: it is told what a verified one says.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::path::{CanonicalPath, is_certain};
use super::query::Queries;
use super::role::Role;
use super::translate::Translation;
use crate::denial::Denial;
use crate::purpose::{Purpose, Purposes};

/// The longest path of a route, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// What a request must bring to use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Anonymous,
    /// A device's token, or a user's that carries a device.
    Device,
    /// A user's token.
    User,
    /// Either: clients fall back to the user's token for the device's work.
    DeviceOrUser,
    /// Either; or no token and a message that clients send before they can have one.
    BootstrapMessage,
    /// An AltAuth namespace: denied until there is a policy for it.
    AltAuth,
    /// Windows authentication by the backend: denied unless the site system allows it.
    WindowsAuth,
    /// A client certificate that is good, whatever token there is.
    Certificate,
    /// Nothing is enough.
    Deny,
}

impl Requirement {
    /// Whether a request must bring a token.
    pub fn asks_for_a_token(self) -> bool {
        use Requirement::{BootstrapMessage, Device, DeviceOrUser, User};
        matches!(self, Device | User | DeviceOrUser | BootstrapMessage)
    }

    /// Whether a request without a token may be let through for the message that it carries.
    pub fn takes_bootstrap_messages(self) -> bool {
        self == Requirement::BootstrapMessage
    }

    /// The word used in configuration, logs and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Requirement::Anonymous => "anonymous",
            Requirement::Device => "device",
            Requirement::User => "user",
            Requirement::DeviceOrUser => "device-or-user",
            Requirement::BootstrapMessage => "bootstrap-message",
            Requirement::AltAuth => "alt-auth",
            Requirement::WindowsAuth => "windows",
            Requirement::Certificate => "certificate",
            Requirement::Deny => "deny",
        }
    }
}

/// What becomes of the token once it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenHandling {
    /// It ends here: the backend has no use for it, and cannot lose it.
    Strip,
    /// The backend reads it too.
    Forward,
}

/// Where the requests of a route go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// The site system's backend.
    #[default]
    Backend,
    /// The backend that the site system has for this role.
    Role(Role),
    /// The site's token service, which judges credentials itself.
    TokenService,
    /// The site server, which knows gateways by the certificate that they prove.
    SiteServer,
    /// What the site's authority publishes: lists of revoked certificates, and its own.
    Publication,
}

/// Which paths a route covers: one path, or (written with a slash at the end) a path and all below.
///
/// One path also takes what lies below it away from shorter patterns: a backend that runs
/// `/sms_mp/.sms_pol/x` as `.sms_pol` must not be reached by way of `/sms_mp/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Without the slash at the end.
    path: Cow<'static, str>,
    with_subtree: bool,
}

impl Pattern {
    /// The pattern of a path as it is configured, in any case.
    ///
    /// # Errors
    /// As [`CanonicalPath::parse`]; a query is [`Denial::PathMalformed`].
    pub fn parse(path: &str) -> Result<Self, Denial> {
        if path.contains('?') {
            return Err(Denial::PathMalformed);
        }
        let path = CanonicalPath::parse(path.as_bytes(), PATTERN_BYTES_MAX)?;
        if !path.is_plain() {
            return Err(Denial::PathAmbiguous);
        }
        let path = path.to_string();
        Ok(match path.strip_suffix('/') {
            Some(stem) => Pattern { path: stem.to_owned().into(), with_subtree: true },
            None => Pattern { path: path.into(), with_subtree: false },
        })
    }

    /// The pattern of a path that is canonical already.
    pub(super) const fn of_canonical(path: &'static str) -> Self {
        match path.as_bytes() {
            [.., b'/'] => {
                Pattern { path: Cow::Borrowed(path.split_at(path.len() - 1).0), with_subtree: true }
            }
            _ => Pattern { path: Cow::Borrowed(path), with_subtree: false },
        }
    }

    fn reach(&self, key: &str) -> Reach {
        match key.strip_prefix(&*self.path) {
            Some("") => Reach::Covers,
            Some(below) if below.starts_with('/') => match self.with_subtree {
                true => Reach::Covers,
                false => Reach::Claims,
            },
            _ => Reach::None,
        }
    }
}

impl Pattern {
    /// Whether somebody could read a path as one within this pattern: each segment is the pattern's,
    /// or, past the first so many, one that servers may read differently.
    fn may_be_read(&self, key: &str, exactly: usize) -> bool {
        let mut read = key.split('/');
        self.path.split('/').enumerate().all(|(place, own)| {
            let same = |read: &str| read == own || place >= exactly && !is_certain(read);
            read.next().is_some_and(same)
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, if self.with_subtree { "/" } else { "" })
    }
}

enum Reach {
    Covers,
    /// Below a pattern of one path: nothing shorter covers it either.
    Claims,
    None,
}

/// A namespace of the backend, and the terms on which it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name: a metric label, and the word in logs.
    pub name: Cow<'static, str>,
    /// The paths.
    pub pattern: Pattern,
    /// The methods, by their exact names (RFC 9110 §9.1: they are case-sensitive).
    pub methods: Vec<Cow<'static, str>>,
    /// The queries, where they are judged.
    pub queries: Option<Queries>,
    /// The largest request body, in bytes; `None` for no limit.
    pub body_bytes: Option<u64>,
    /// What a request must bring.
    pub requirement: Requirement,
    /// The purposes that a token may have, where one is required.
    pub purposes: Purposes,
    /// What becomes of the token.
    pub token: TokenHandling,
    /// How long the backend may take to answer, where that is longer than usual: a long poll.
    pub answer_time: Option<Duration>,
    /// How many requests one address may make in a minute; any number if nothing is said. IPv6
    /// counts by /64.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Whether a request may leave HTTP for a WebSocket.
    pub websocket: bool,
    /// Where its requests go.
    pub destination: Destination,
    /// The namespace that the backend sees instead, where it has not this one.
    pub translation: Option<Translation>,
    /// Whether links in answers that lead to the site system by http lead there by https.
    pub rewrite_links: bool,
    /// Why the route is as it is, as a sentence for the operator.
    pub reason: Cow<'static, str>,
}

/// What a verified token says, as far as a route asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// What it is for.
    pub purpose: Purpose,
    /// Whether it speaks for a device.
    pub device: bool,
    /// Whether it speaks for a user.
    pub user: bool,
}

impl Route {
    /// Whether a request with this token, or without one, may use the route. `windows_auth` says
    /// whether the site system allows Windows authentication.
    ///
    /// The purpose comes first. A registration token speaks for nobody yet: where a device may
    /// work, it is enough that the route lists registration.
    ///
    /// # Errors
    /// Why it may not.
    pub fn judge(&self, token: Option<TokenFacts>, windows_auth: bool) -> Result<(), Denial> {
        match self.requirement {
            Requirement::Anonymous => return Ok(()),
            Requirement::WindowsAuth if windows_auth => return Ok(()),
            Requirement::WindowsAuth => return Err(Denial::RouteWindowsAuth),
            Requirement::AltAuth => return Err(Denial::RouteAltAuth),
            Requirement::Deny => return Err(Denial::RouteDenied),
            // No token opens it: what does is the connection's, and judged beside this.
            Requirement::Certificate => return Err(Denial::CertificateMissing),
            Requirement::Device
            | Requirement::User
            | Requirement::DeviceOrUser
            | Requirement::BootstrapMessage => {}
        }
        let TokenFacts { purpose, device, user } = token.ok_or(Denial::TokenMissing)?;
        if !self.purposes.contains(purpose) {
            return Err(Denial::TokenPurpose);
        }
        let registers = purpose == Purpose::Registration;
        match self.requirement {
            Requirement::User if !user => Err(Denial::UserTokenRequired),
            Requirement::Device if !(device || registers) => Err(Denial::DeviceTokenRequired),
            Requirement::DeviceOrUser | Requirement::BootstrapMessage
                if !(device || user || registers) =>
            {
                Err(Denial::DeviceTokenRequired)
            }
            _ => Ok(()),
        }
    }

    /// The route for a backend without namespaces of tokens, where it is one that has a pair: the
    /// backend has no use for the token then.
    pub fn translated(self) -> Self {
        match Translation::of(&self.pattern) {
            None => self,
            translation => Route { translation, token: TokenHandling::Strip, ..self },
        }
    }

    /// Whether the route takes a method.
    ///
    /// # Errors
    /// [`Denial::RouteMethod`] if it does not.
    pub fn takes(&self, method: &str) -> Result<(), Denial> {
        match self.methods.iter().any(|m| m == method) {
            true => Ok(()),
            false => Err(Denial::RouteMethod),
        }
    }

    /// Whether it gives out files of any name: content, which vendors name as they like. Elsewhere no
    /// name has a percent sign or a semicolon.
    fn has_files(&self) -> bool {
        let lists = self.methods.iter().any(|method| method == "PROPFIND");
        let content = self.purposes.contains(Purpose::Content)
            || self.requirement == Requirement::WindowsAuth && lists;
        let elsewhere = matches!(self.destination, Destination::Backend | Destination::Role(_));
        content && elsewhere && self.pattern.with_subtree
    }

    /// The value of `Allow` (RFC 9110 §10.2.1), for an answer of 405.
    pub fn allow(&self) -> String {
        self.methods.join(", ")
    }
}

/// All routes of a site system.
#[derive(Clone, Debug, Default)]
pub struct RouteTable(Vec<Route>);

impl RouteTable {
    /// A table of the operator's own routes on top of presets. The longest pattern wins; of equally
    /// long ones the own one.
    pub fn new(own: Vec<Route>, presets: Vec<Route>) -> Self {
        let mut routes: Vec<_> = own.into_iter().chain(presets).collect();
        // Stable, so that own routes stay before presets, and all in their written order.
        routes.sort_by_key(|route| std::cmp::Reverse(route.pattern.path.len()));
        RouteTable(routes)
    }

    /// The routes, the longest pattern first: the order in which they are asked.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// The route at a place in that order.
    pub fn get(&self, place: usize) -> Option<&Route> {
        self.0.get(place)
    }

    /// The route that covers a path, whatever the method: for labels, and for `Allow`.
    pub fn covering(&self, path: &CanonicalPath) -> Option<&Route> {
        self.get(self.place(path).ok()?)
    }

    /// The place of the route that covers a path, for what is kept beside the routes.
    ///
    /// Where routes tell names apart, a name has ASCII characters alone, or is a route's own to the
    /// letter. Any other may be one that a route has: backends fold case (the Kelvin sign to `k`),
    /// normalise (wide and circled letters), leave out what is not seen, trim, and convert to a code
    /// page of their own, which makes a letter of nearly anything somewhere. Below what routes tell
    /// apart, files have the names that they have.
    ///
    /// # Errors
    /// [`Denial::PathAmbiguous`] where another route may be meant, [`Denial::RouteUnknown`] where
    /// none covers the path.
    pub fn place(&self, path: &CanonicalPath) -> Result<usize, Denial> {
        if self.means_others(path) {
            return Err(Denial::PathAmbiguous);
        }
        let mut claimed = 0;
        for (place, route) in self.0.iter().enumerate() {
            if route.pattern.path.len() < claimed {
                break;
            }
            match route.pattern.reach(path.as_str()) {
                Reach::Covers if path.is_plain() || route.has_files() => return Ok(place),
                Reach::Covers => return Err(Denial::PathAmbiguous),
                Reach::Claims => claimed = route.pattern.path.len(),
                Reach::None => {}
            }
        }
        match path.is_plain() {
            true => Err(Denial::RouteUnknown),
            false => Err(Denial::PathAmbiguous),
        }
    }

    /// Whether a path is covered, or lies below one that is a route of its own, or may be read so.
    pub fn claims(&self, path: &CanonicalPath) -> bool {
        self.reaching(path).next().is_some() || self.means_others(path)
    }

    /// The routes that cover or claim a path, the longest pattern first.
    fn reaching(&self, path: &CanonicalPath) -> impl Iterator<Item = &Route> {
        let key = path.as_str();
        self.0.iter().filter(move |route| !matches!(route.pattern.reach(key), Reach::None))
    }

    /// Whether a path may be read as one of a route that does not reach it as it is.
    fn means_others(&self, path: &CanonicalPath) -> bool {
        let key = path.as_str();
        if is_certain(key) {
            return false;
        }
        let exactly = self.reaching(path).next().map_or(0, |r| r.pattern.path.split('/').count());
        let is_other = |route: &&Route| matches!(route.pattern.reach(key), Reach::None);
        self.0.iter().filter(is_other).any(|route| route.pattern.may_be_read(key, exactly))
    }

    /// The route of a request.
    ///
    /// # Errors
    /// As [`RouteTable::place`]; [`Denial::RouteMethod`] where the route does not take the method.
    pub fn find(&self, path: &CanonicalPath, method: &str) -> Result<&Route, Denial> {
        let route = self.get(self.place(path)?).ok_or(Denial::RouteUnknown)?;
        route.takes(method).map(|()| route)
    }
}
