//! How a site system observes, and how it treats plain HTTP.

use crate::config::{ObserveUntil, PlainHttpMode};
use crate::route::{RouteTable, guarded};

/// How a site system observes.
#[derive(Clone, Debug)]
pub struct Observing {
    until: ObserveUntil,
    /// Namespaces of all roles that are closed or inspected: the backend may have them even if this
    /// site system lacks the role. Also the site's own services, which the backend must not see.
    pub(super) guarded: RouteTable,
}

impl Observing {
    /// Observes until that time, for a site system with these routes.
    pub fn new(until: ObserveUntil, routes: &RouteTable) -> Self {
        Observing { until, guarded: guarded(routes) }
    }

    /// Returns the end of observing.
    pub fn until(&self) -> ObserveUntil {
        self.until
    }
}

/// How a site system treats plain HTTP.
#[derive(Clone, Debug)]
pub struct PlainHttpRules {
    pub(super) mode: PlainHttpMode,
    /// The host and the https origin of each of its names. The first one serves requests under any
    /// other name.
    pub(super) origins: Vec<(String, String)>,
    pub(super) guarded: RouteTable,
}

impl PlainHttpRules {
    /// `origins` are pairs of a host and its https origin. `routes` are all routes of the site
    /// system.
    pub fn new(mode: PlainHttpMode, origins: Vec<(String, String)>, routes: &RouteTable) -> Self {
        PlainHttpRules { mode, origins, guarded: guarded(routes) }
    }
}
