//! Resolves `[[site_system.route]]`.

use std::num::NonZeroU32;
use std::ops::Range;

use super::ResolveScope;
use crate::config::file::{RouteFile, TokenFile, UpstreamFile};
use crate::config::read::{self, Table};
use crate::config::requirements::REQUIREMENTS;
use crate::config::spanned::Spanned;
use crate::purpose::{Purpose, Purposes};
use crate::route::{
    Destination, Pattern, Requirement, Role, Route, RouteTable, TokenHandling, Translation,
    presets, publication, token_service,
};

/// The sources of a site system's routes, besides its own table.
pub(super) struct Roots<'a> {
    pub(super) roles: &'a [Role],
    /// The roles with a backend of their own.
    pub(super) own_backends: &'a [Role],
    /// The path of the token service, if it is offered.
    pub(super) namespace: Option<&'a str>,
    /// Whether token namespaces are translated to those without a token.
    pub(super) translates: bool,
    /// Whether it serves the publications of the site's CA.
    pub(super) publishes: bool,
    /// The queries that the location route accepts besides its preset's.
    pub(super) queries: Vec<String>,
}

impl Roots<'_> {
    /// The destination of requests for a role.
    fn destination(&self, role: Role) -> Destination {
        if self.own_backends.contains(&role) {
            Destination::Role(role)
        } else {
            Destination::Backend
        }
    }
}

/// The presets of the roles with the site system's own routes on top. `certificates` tells whether
/// clients are asked for a certificate.
pub(super) fn resolve_all(
    roots: Roots<'_>,
    system: &Table<'_>,
    certificates: bool,
    scope: &mut ResolveScope<'_>,
) -> RouteTable {
    let mut own = Vec::new();
    let tables = system
        .get("route")
        .map(|value| read::tables(value, "site_system.route", scope.errors))
        .unwrap_or_default();
    for (n, (span, table)) in tables.into_iter().enumerate() {
        let file: RouteFile =
            read::section(table, span.clone(), "[[site_system.route]]", scope.errors);
        let require = file.require.as_ref().map(Spanned::span);
        let at = span.clone();
        let route = resolve(file, n, span, &roots, scope);
        if let (Some(Requirement::Certificate), Some(at), false) =
            (route.as_ref().map(|route| route.requirement), require, certificates)
        {
            scope.conflict(
                at,
                "require = \"certificate\", but client certificates are not requested",
                "write client_certificate = \"request\" and client_ca in the site system",
            );
        }
        let service: Vec<Route> = roots.namespace.into_iter().flat_map(token_service).collect();
        let published: Vec<Route> = roots.publishes.then(publication).into_iter().collect();
        if let Some(taken) = route.as_ref().filter(|own| overlaps(own, &published)) {
            let message = format!(
                "{} is reserved for CRLs and issuer certificates of the site's authority",
                taken.pattern
            );
            scope.conflict(at, message, "give the route another path");
            continue;
        }
        if let Some(taken) = route.as_ref().filter(|own| overlaps(own, &service)) {
            let message = format!("{} is within the token service", taken.pattern);
            scope.conflict(at, message, "give the token service another path, or the route");
            continue;
        }
        own.extend(route);
    }
    let of_roles = presets(roots.roles).into_iter().map(|(role, route)| {
        let mut route = if roots.translates { route.translated() } else { route };
        if let Some(queries) = &mut route.queries {
            queries.open.extend(roots.queries.iter().map(|word| word.clone().into()));
        }
        match route.destination {
            Destination::Backend => Route { destination: roots.destination(role), ..route },
            _ => route,
        }
    });
    let service = roots.namespace.into_iter().flat_map(token_service);
    let published = roots.publishes.then(publication);
    RouteTable::new(own, of_roles.chain(service).chain(published).collect())
}

/// Whether a route of the operator would override one of these.
fn overlaps(own: &Route, others: &[Route]) -> bool {
    let stem = |route: &Route| route.pattern.to_string().trim_end_matches('/').to_owned();
    let below = |path: &str, above: &str| {
        path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let path = stem(own);
    others.iter().any(|other| below(&path, &stem(other)))
}

fn resolve(
    file: RouteFile,
    n: usize,
    span: Range<usize>,
    roots: &Roots<'_>,
    scope: &mut ResolveScope<'_>,
) -> Option<Route> {
    let path = scope.required(file.path, span.clone(), "path of a route", "path = \"/reports/\"");
    let hint = format!("known: {}", REQUIREMENTS.map(|(word, _)| word).join(", "));
    let require = scope.required(file.require, span, "require of a route", &hint);
    let (path, require) = (path?, require?);
    let requirement = requirement(require.get_ref()).or_else(|| {
        scope.hinted(require.span(), "unknown requirement", hint);
        None
    });
    let pattern = match Pattern::parse(path.get_ref()) {
        Ok(pattern) => pattern,
        Err(denial) => {
            scope.hinted(path.span(), "not a plain path", denial.title());
            return None;
        }
    };
    let mut methods: Vec<std::borrow::Cow<'static, str>> = Vec::new();
    for method in file.methods.map(|m| m.into_inner()).unwrap_or_default() {
        let upper = method.get_ref().bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        if upper && !method.get_ref().is_empty() {
            methods.push(method.into_inner().into());
        } else {
            scope.error(method.span(), "a method is written in capitals");
        }
    }
    if methods.is_empty() {
        methods = ["GET", "HEAD", "POST"].map(Into::into).to_vec();
    }
    let purposes = match file.purposes {
        None => Purposes::of(&[Purpose::Client]),
        Some(typed) => {
            let mut found = Vec::new();
            for purpose in typed.into_inner() {
                match Purpose::ALL.into_iter().find(|p| p.as_str() == purpose.get_ref()) {
                    Some(known) => found.push(known),
                    None => {
                        let known = Purpose::ALL.map(Purpose::as_str);
                        let message = format!("unknown purpose '{}'", purpose.get_ref());
                        let hint = format!("known: {}", known.join(", "));
                        scope.hinted(purpose.span(), message, hint);
                    }
                }
            }
            Purposes::of(&found)
        }
    };
    let token = match file.token.map(|t| t.into_inner()) {
        Some(TokenFile::Forward) => TokenHandling::Forward,
        Some(TokenFile::Strip) | None => TokenHandling::Strip,
    };
    let websocket = file.websocket.as_ref().is_some_and(|websocket| *websocket.get_ref());
    if let Some(typed) = file.websocket.filter(|_| websocket && !methods.iter().any(|m| m == "GET"))
    {
        scope.conflict(typed.span(), "a WebSocket begins with GET", "add \"GET\" to methods");
    }
    let translation = match file.upstream.filter(|u| *u.get_ref() == UpstreamFile::Translate) {
        Some(typed) => translation(&pattern, typed.span(), scope),
        None => None,
    };
    let body_bytes = file.body_bytes.map(|b| b.get_ref().0);
    let requests_per_minute = file.requests_per_minute.and_then(|typed| {
        let turns = NonZeroU32::new(*typed.get_ref());
        if turns.is_none() {
            scope.error(typed.span(), "requests_per_minute is at least 1");
        }
        turns
    });
    let destination =
        file.role.map_or(Destination::Backend, |role| destination(&role, roots, scope));
    Some(Route {
        name: format!("own-{}", n + 1).into(),
        pattern,
        methods,
        queries: None,
        body_bytes,
        requirement: requirement?,
        purposes,
        token,
        answer_time: None,
        requests_per_minute,
        destination,
        translation,
        websocket,
        rewrite_links: file.rewrite_links.is_some_and(|on| on.into_inner()),
        reason: "A route of the operator's own.".into(),
    })
}

/// The translation for a route's namespace, which must have one.
fn translation(
    pattern: &Pattern,
    span: Range<usize>,
    scope: &mut ResolveScope<'_>,
) -> Option<Translation> {
    let found = Translation::of(pattern);
    if found.is_none() {
        let known: Vec<&str> = Translation::namespaces().collect();
        let message = format!("{pattern} is not in a namespace that can be translated");
        scope.hinted(span, message, format!("these can: {}", known.join(", ")));
    }
    found
}

/// The destination of a route that names a role.
fn destination(
    role: &Spanned<String>,
    roots: &Roots<'_>,
    scope: &mut ResolveScope<'_>,
) -> Destination {
    match Role::from_name(role.get_ref()).filter(|role| roots.roles.contains(role)) {
        Some(role) => roots.destination(role),
        None => {
            let words: Vec<&str> = roots.roles.iter().map(|role| role.as_str()).collect();
            let message = format!("'{}' is not a role of this site system", role.get_ref());
            scope.conflict(role.span(), message, format!("its roles: {}", words.join(", ")));
            Destination::Backend
        }
    }
}

fn requirement(word: &str) -> Option<Requirement> {
    REQUIREMENTS.iter().find(|(known, _)| *known == word).map(|(_, requirement)| *requirement)
}
