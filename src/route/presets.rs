//! The preset routes of each role of a site system, as data: namespaces, methods, sizes,
//! requirements, and the reason for each.
//!
//! Contains no decisions in code. Paths without a row are denied.

mod rows;
mod service;

use super::pattern::Pattern;
use super::query::Queries;
use super::role::Role;
use super::table::{Destination, Requirement, Route, RouteTable};
use Requirement::{AltAuth, BootstrapMessage, Deny, WindowsAuth};
use rows::PresetRow;
pub use service::{PUBLICATION, publication, token_service};

/// The routes of a role.
pub fn preset(role: Role) -> Vec<Route> {
    let rows = match role {
        Role::SiteServer => rows::SITE_SERVER,
        Role::ManagementPoint => rows::MANAGEMENT_POINT,
        Role::DistributionPoint => rows::DISTRIBUTION_POINT,
        Role::AdministrationService => rows::ADMINISTRATION_SERVICE,
        Role::SoftwareUpdatePoint => rows::SOFTWARE_UPDATE_POINT,
        Role::FallbackStatusPoint => rows::FALLBACK_STATUS_POINT,
        Role::StateMigrationPoint => rows::STATE_MIGRATION_POINT,
        Role::ReportingServicesPoint => rows::REPORTING_SERVICES_POINT,
    };
    let destination = match role {
        Role::SiteServer => Destination::SiteServer,
        _ => Destination::Backend,
    };
    rows.iter().map(|row| Route { destination, ..row.route() }).collect()
}

/// The routes of several roles, each with its role. If two roles have a route for the same path,
/// the more specific role wins: a fallback status point has more routes than the path for it on a
/// management point.
pub fn presets(roles: &[Role]) -> Vec<(Role, Route)> {
    let of = |role: Role| preset(role).into_iter().map(move |route| (role, route));
    let (general, special): (Vec<Role>, Vec<Role>) =
        roles.iter().partition(|role| **role == Role::ManagementPoint);
    let mut all: Vec<(Role, Route)> = special.into_iter().flat_map(of).collect();
    for (role, route) in general.into_iter().flat_map(of) {
        if !all.iter().any(|(_, other)| other.pattern == route.pattern) {
            all.push((role, route));
        }
    }
    all
}

/// The namespaces of all roles that are closed by default or have their messages inspected; and the
/// routes of `own` to the token service and the site server, which the backend must not see.
///
/// Reporting uses names that any web server may have: only its own role closes them, so `own`
/// decides whether they are guarded.
pub fn guarded(own: &RouteTable) -> RouteTable {
    let is_guarded = |route: &Route| {
        matches!(route.requirement, AltAuth | BootstrapMessage | WindowsAuth | Deny)
    };
    let to_service = own.iter().filter(|route| {
        matches!(route.destination, Destination::TokenService | Destination::SiteServer)
    });
    let to_service = to_service.cloned();
    let has = |preset: &Route| own.iter().any(|route| route.name == preset.name);
    let roles = Role::ALL.into_iter();
    let presets = roles.flat_map(|role| {
        let anywhere = role != Role::ReportingServicesPoint;
        preset(role).into_iter().filter(move |route| anywhere || has(route))
    });
    let presets = presets.filter(is_guarded);
    RouteTable::new(Vec::new(), presets.chain(to_service).collect())
}

impl PresetRow {
    fn route(&self) -> Route {
        Route {
            name: self.name.into(),
            pattern: Pattern::of_canonical(self.path),
            methods: self.methods.iter().map(|m| (*m).into()).collect(),
            queries: (self.name == rows::LOCATION).then(|| Queries {
                open: rows::LOCATION_QUERIES.iter().map(|word| (*word).into()).collect(),
                media: rows::MEDIA_QUERIES,
            }),
            body_bytes: Some(self.body_bytes),
            requirement: self.requirement,
            purposes: self.purposes,
            token: self.token,
            websocket: false,
            rewrite_links: false,
            destination: Destination::Backend,
            translation: None,
            requests_per_minute: rows::ANONYMOUS_UPLOADS
                .contains(&self.name)
                .then_some(rows::UPLOADS_PER_MINUTE),
            answer_time: rows::LONG_POLLS.contains(&self.name).then_some(rows::LONG_POLL),
            reason: self.reason.into(),
        }
    }
}
