//! The route table: which route covers a path, and its requirement.
//!
//! Denies by default. Does not parse tokens: the caller passes the facts of a verified one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::path::{CanonicalPath, is_certain};
use super::pattern::{Pattern, RouteReach};
use super::query::Queries;
use super::role::Role;
use super::translate::Translation;
use crate::denial::Denial;
use crate::purpose::{Purpose, Purposes};

/// The credentials that a route requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// None.
    Anonymous,
    /// A device's token, or a user's that carries a device.
    Device,
    /// A user's token.
    User,
    /// Either: clients fall back to the user's token for the device's work.
    DeviceOrUser,
    /// Either; or no token and a message that clients send before they can have one.
    BootstrapMessage,
    /// An AltAuth namespace: denied until a policy for it is configured.
    AltAuth,
    /// Windows authentication by the backend: denied unless the site system allows it.
    WindowsAuth,
    /// A valid client certificate; a token does not suffice.
    Certificate,
    /// Denied to all.
    Deny,
}

impl Requirement {
    /// Whether a request must have a token.
    pub fn asks_for_a_token(self) -> bool {
        use Requirement::{BootstrapMessage, Device, DeviceOrUser, User};
        matches!(self, Device | User | DeviceOrUser | BootstrapMessage)
    }

    /// Whether a request without a token may be admitted because of its message.
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

/// The handling of a verified token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenHandling {
    /// It is removed: the backend does not need it, and cannot leak it.
    Strip,
    /// It is forwarded: the backend reads it too.
    Forward,
}

/// The destination of a route's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// The site system's backend.
    #[default]
    Backend,
    /// The backend that the site system has for this role.
    Role(Role),
    /// The site's token service, which checks credentials itself.
    TokenService,
    /// The site server, which authenticates gateways by their certificates.
    SiteServer,
    /// The publications of the site's CA: CRLs, and its own certificate.
    Publication,
}

/// A namespace of the backend, and the rules for access to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name: a metric label, and the word in logs.
    pub name: Cow<'static, str>,
    /// The paths.
    pub pattern: Pattern,
    /// The methods, by their exact names (RFC 9110 §9.1: they are case-sensitive).
    pub methods: Vec<Cow<'static, str>>,
    /// The permitted queries, if they are checked.
    pub queries: Option<Queries>,
    /// The largest request body, in bytes; `None` for no limit.
    pub body_bytes: Option<u64>,
    /// The required credentials.
    pub requirement: Requirement,
    /// The permitted purposes of a token, if one is required.
    pub purposes: Purposes,
    /// The handling of the token.
    pub token: TokenHandling,
    /// The backend's response timeout, if it is longer than usual: a long poll.
    pub answer_time: Option<Duration>,
    /// The rate limit per address and minute; none if unset. IPv6 counts by /64.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Whether a request may be upgraded to a WebSocket.
    pub websocket: bool,
    /// Where its requests go.
    pub destination: Destination,
    /// The namespace that is sent to the backend instead, if it does not have this one.
    pub translation: Option<Translation>,
    /// Whether http links to the site system in responses are rewritten to https.
    pub rewrite_links: bool,
    /// Why the route is as it is, as a sentence for the operator.
    pub reason: Cow<'static, str>,
}

/// The facts of a verified token that routes check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Its purpose.
    pub purpose: Purpose,
    /// Whether it identifies a device.
    pub device: bool,
    /// Whether it identifies a user.
    pub user: bool,
}

impl Route {
    /// Checks whether a request with this token, or without one, may use the route. `windows_auth`
    /// tells whether the site system allows Windows authentication.
    ///
    /// The purpose comes first. A registration token identifies no device yet: for a route that
    /// requires a device, it is enough that the route lists registration.
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
            // No token is enough: the connection's client certificate is checked separately.
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

    /// The route for a backend without token namespaces, if the route's namespace has a counterpart
    /// without a token: the backend does not need the token then.
    pub fn translated(self) -> Self {
        match Translation::of(&self.pattern) {
            None => self,
            translation => Route { translation, token: TokenHandling::Strip, ..self },
        }
    }

    /// Checks that the route permits a method.
    ///
    /// # Errors
    /// [`Denial::RouteMethod`] if it does not.
    pub fn takes(&self, method: &str) -> Result<(), Denial> {
        if self.methods.iter().any(|m| m == method) { Ok(()) } else { Err(Denial::RouteMethod) }
    }

    /// Whether it serves files of any name: content, which vendors name freely. Elsewhere no name
    /// has a percent sign or a semicolon.
    fn has_files(&self) -> bool {
        let lists = self.methods.iter().any(|method| method == "PROPFIND");
        let content = self.purposes.contains(Purpose::Content)
            || self.requirement == Requirement::WindowsAuth && lists;
        let elsewhere = matches!(self.destination, Destination::Backend | Destination::Role(_));
        content && elsewhere && self.pattern.with_subtree()
    }

    /// The value of `Allow` (RFC 9110 §10.2.1), for a 405 response.
    pub fn allow(&self) -> String {
        self.methods.join(", ")
    }
}

/// All routes of a site system.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// The longest pattern first.
    routes: Vec<Route>,
    /// The positions of the routes by the first segment of their patterns: only these, and a route of
    /// all paths, can reach a path with that segment. So a request does not cost more with more
    /// routes.
    by_segment: BTreeMap<String, Vec<usize>>,
}

impl RouteTable {
    /// A table of the operator's own routes on top of presets. The longest pattern wins; of equally
    /// long ones the operator's own.
    pub fn new(own: Vec<Route>, presets: Vec<Route>) -> Self {
        let mut routes: Vec<_> = own.into_iter().chain(presets).collect();
        // Stable, so that own routes stay before presets, and all in their written order.
        routes.sort_by_key(|route| std::cmp::Reverse(route.pattern.path_len()));
        let mut by_segment: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, route) in routes.iter().enumerate() {
            let pattern = route.pattern.to_string();
            by_segment.entry(first_segment(&pattern).to_owned()).or_default().push(place);
        }
        RouteTable { routes, by_segment }
    }

    /// The routes, the longest pattern first: the order in which they are matched.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// The route at a position in that order.
    pub fn get(&self, place: usize) -> Option<&Route> {
        self.routes.get(place)
    }

    /// The route that covers a path, for any method: for labels, and for `Allow`.
    pub fn covering(&self, path: &CanonicalPath) -> Option<&Route> {
        self.get(self.place(path).ok()?)
    }

    /// The position of the route that covers a path, for data that is stored beside the routes.
    ///
    /// Where routes distinguish names, a name must be ASCII only, or exactly that of a route. Any
    /// other name may be read as a route's: backends fold case (the Kelvin sign to `k`), normalize
    /// (wide and circled letters), drop invisible characters, trim, and convert to their own code
    /// page, in which almost any character becomes a letter somewhere. Below the names that routes
    /// distinguish, files may have any name.
    ///
    /// # Errors
    /// [`Denial::PathAmbiguous`] if another route may be meant, [`Denial::RouteUnknown`] if none
    /// covers the path.
    pub fn place(&self, path: &CanonicalPath) -> Result<usize, Denial> {
        if self.means_others(path) {
            return Err(Denial::PathAmbiguous);
        }
        let mut claimed = 0;
        for (place, route) in self.candidates(path.as_str()) {
            if route.pattern.path_len() < claimed {
                break;
            }
            match route.pattern.reach(path.as_str()) {
                RouteReach::Covers if path.is_plain() || route.has_files() => return Ok(place),
                RouteReach::Covers => return Err(Denial::PathAmbiguous),
                RouteReach::Claims => claimed = route.pattern.path_len(),
                RouteReach::None => {}
            }
        }
        if path.is_plain() { Err(Denial::RouteUnknown) } else { Err(Denial::PathAmbiguous) }
    }

    /// Whether a path is covered, or lies below a path that is itself a route, or may be read so.
    pub fn claims(&self, path: &CanonicalPath) -> bool {
        self.reaching(path).next().is_some() || self.means_others(path)
    }

    /// The routes that may cover or claim a path, with their positions: the longest pattern first,
    /// and the one of all paths, which is the shortest, last.
    fn candidates(&self, key: &str) -> impl Iterator<Item = (usize, &Route)> {
        let of = |segment: &str| self.by_segment.get(segment).map_or(&[][..], Vec::as_slice);
        let segment = first_segment(key);
        let of_all = if segment.is_empty() { &[] } else { of("") };
        let places = of(segment).iter().chain(of_all);
        places.filter_map(|place| Some((*place, self.routes.get(*place)?)))
    }

    /// The routes that cover or claim a path, the longest pattern first.
    fn reaching(&self, path: &CanonicalPath) -> impl Iterator<Item = &Route> {
        let key = path.as_str();
        let candidates = self.candidates(key).map(|(_, route)| route);
        candidates.filter(move |route| !matches!(route.pattern.reach(key), RouteReach::None))
    }

    /// Whether a path may be read as one of a route that does not match it literally.
    fn means_others(&self, path: &CanonicalPath) -> bool {
        let key = path.as_str();
        if is_certain(key) {
            return false;
        }
        let exactly = self.reaching(path).next().map_or(0, |r| r.pattern.segments());
        let is_other = |route: &&Route| matches!(route.pattern.reach(key), RouteReach::None);
        self.routes.iter().filter(is_other).any(|route| route.pattern.may_be_read(key, exactly))
    }

    /// The route of a request.
    ///
    /// # Errors
    /// As [`RouteTable::place`]; [`Denial::RouteMethod`] if the route does not permit the method.
    pub fn find(&self, path: &CanonicalPath, method: &str) -> Result<&Route, Denial> {
        let route = self.get(self.place(path)?).ok_or(Denial::RouteUnknown)?;
        route.takes(method).map(|()| route)
    }
}

/// The first segment of a canonical path or pattern: empty for `/`.
fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}
