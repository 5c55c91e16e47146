//! Resolves `[[site_system]]`.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::{
    ResolveScope, backend, balancers, certificates, following, listeners, messages, mode,
    plain_http, route, site,
};
use crate::config::code::ConfigCode;
use crate::config::file::{SiteSystemFile, UpstreamFile};
use crate::config::read::{self, Table};
use crate::config::resolved::{
    MessagePolicy, PlainHttpMode, SiteConfig, SiteSystem, TokenServiceConfig,
};
use crate::config::spanned::Spanned;
use crate::route::Role;
use crate::token::TokenSource;

/// The settings outside its own table that a site system depends on.
#[derive(Clone, Copy)]
pub(super) struct OfSite<'a> {
    pub(super) site: &'a SiteConfig,
    pub(super) service: &'a TokenServiceConfig,
    /// Whether a CA of this process publishes CRLs.
    pub(super) publishes: bool,
}

pub(super) fn resolve_all(
    tables: Vec<(Range<usize>, &Table<'_>)>,
    issuers: &[String],
    of_site: OfSite<'_>,
    own: [(&str, SocketAddr); 2],
    scope: &mut ResolveScope<'_>,
) -> Vec<SiteSystem> {
    if tables.is_empty() {
        scope.errors.push(
            super::ConfigError::whole("there is no [[site_system]]")
                .code(ConfigCode::Missing)
                .hint("write one: name, roles, listen, hosts and backend"),
        );
    }
    let mut systems: Vec<(Range<usize>, SiteSystem)> = Vec::new();
    for (span, table) in tables {
        let file: SiteSystemFile =
            read::section(table, span.clone(), "[[site_system]]", scope.errors);
        let system = resolve(file, table, span.clone(), issuers, of_site, scope);
        clashes(&systems, &system, &span, scope);
        systems.push((span, system));
    }
    plain_http::clashes(&systems, scope);
    listeners::clashes(&systems, own, scope);
    systems.into_iter().map(|(_, system)| system).collect()
}

/// Two site systems may share an address, but not a name, a host on it, or the default.
fn clashes(
    others: &[(Range<usize>, SiteSystem)],
    system: &SiteSystem,
    span: &Range<usize>,
    scope: &mut ResolveScope<'_>,
) {
    for (_, other) in others {
        if other.name == system.name && !system.name.is_empty() {
            let message = format!("two site systems are named '{}'", system.name);
            scope.conflict(span.clone(), message, "give them different names");
        }
        if other.listen != system.listen {
            continue;
        }
        balancers::agree(other, system, span, scope);
        if other.default && system.default {
            let message = format!("'{}' and '{}' are both the default", other.name, system.name);
            scope.conflict(span.clone(), message, "one site system of an address may be");
        }
        if let Some(host) = system.hosts.iter().find(|h| other.hosts.contains(h)) {
            let message =
                format!("'{}' and '{}' both have the host {host}", other.name, system.name);
            scope.conflict(span.clone(), message, "give them different hosts or addresses");
        }
    }
}

fn resolve(
    file: SiteSystemFile,
    table: &Table<'_>,
    span: Range<usize>,
    issuers: &[String],
    OfSite { site, service, publishes }: OfSite<'_>,
    scope: &mut ResolveScope<'_>,
) -> SiteSystem {
    let roles = roles(file.roles.clone(), scope);
    following::site_server_alone(&roles, &file, site, scope);
    let backend = if roles.contains(&Role::SiteServer) {
        following::own_backend()
    } else {
        backend::of_site_system(&file, span.clone(), scope)
    };
    let exposed_allowed = backend::exposed_allowed(&file);
    let pki = certificates::pki(&file, scope);
    let clients = certificates::clients(&file, span.clone(), scope);
    let name = name(file.name, span.clone(), scope);
    let observe_until = mode::resolve(file.mode, file.observe_until, span.clone(), scope);
    let hosts = hosts(file.hosts, span.clone(), site, scope);
    let trust_traceparent = file.trust_traceparent.is_some_and(|t| t.into_inner());
    let windows_auth = file.windows_auth.is_some_and(|w| w.into_inner());
    let token_service = file.token_service.is_some_and(|on| on.into_inner());
    let namespace = token_service.then_some(service.path.as_str());
    let role_backends = backend::of_roles(table, &roles, &backend, exposed_allowed, scope);
    let own_backends: Vec<Role> = role_backends.iter().map(|(role, _)| *role).collect();
    let translates = file.upstream.is_some_and(|u| *u.get_ref() == UpstreamFile::Translate);
    let plain_http = plain_http::resolve(file.plain_http, scope);
    let publishes = publishes && plain_http.is_some();
    let roots = route::Roots {
        roles: &roles,
        own_backends: &own_backends,
        namespace,
        translates,
        publishes,
        queries: messages::queries(file.location_queries, &roles, scope),
    };
    let routes = route::resolve_all(roots, table, clients.is_some(), scope);
    let requests = messages::requests(file.message_requests, scope);
    let passes = plain_http.as_ref().is_some_and(|plain| plain.mode == PlainHttpMode::Pass);
    let sends_all = match (observe_until.is_some(), passes) {
        (true, _) => Some("observing"),
        (false, true) => Some("passing plain HTTP"),
        (false, false) => None,
    };
    let (cleartext, at) = (file.cleartext, span.clone());
    backend::cleartext(&backend, &role_backends, &routes, sends_all, cleartext, at, scope);
    if routes.iter().next().is_none() {
        scope.errors.push(
            super::ConfigError::at(span.clone(), format!("site system '{name}' has no route"))
                .code(ConfigCode::Missing)
                .hint(
                    "give it a role, or a [[site_system.route]]: without one it denies everything",
                )
                .warning(),
        );
    }
    let guard = messages::guard(file.message_guard);
    let endpoints = messages::endpoints(file.message_endpoints, guard, scope);
    let alt_auth = messages::alt_auth(file.alt_auth, &routes, scope);
    SiteSystem {
        roles,
        listen: listen(file.listen, span, scope),
        default: file.default.is_some_and(|d| d.into_inner()),
        hosts,
        backend,
        role_backends,
        pki,
        clients,
        issuers: accepted(file.issuers, issuers, scope),
        observe_until,
        balancers: balancers::resolve(file.proxy_protocol, scope),
        http2: file.http2.is_none_or(|h| h.into_inner()),
        windows_auth,
        trust_traceparent,
        messages: MessagePolicy { guard, endpoints, requests },
        alt_auth,
        plain_http,
        token_service,
        token_sources: token_sources(file.token_headers, scope),
        routes,
        name,
    }
}

fn name(
    typed: Option<Spanned<String>>,
    span: Range<usize>,
    scope: &mut ResolveScope<'_>,
) -> String {
    let typed = scope.required(typed, span, "name of a site system", "for example name = \"mp01\"");
    let Some(typed) = typed else { return String::new() };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ok = (1..=64).contains(&typed.get_ref().len()) && typed.get_ref().bytes().all(plain);
    if !ok || typed.get_ref().starts_with('.') {
        // The name is used in metrics and file names.
        scope.error(typed.span(), "a name is up to 64 letters, digits, '-', '_' and '.'");
    }
    typed.into_inner()
}

fn roles(typed: Option<Spanned<Vec<Spanned<String>>>>, scope: &mut ResolveScope<'_>) -> Vec<Role> {
    let mut roles = Vec::new();
    for role in typed.map(|r| r.into_inner()).unwrap_or_default() {
        match Role::from_name(role.get_ref()) {
            Some(found) if !roles.contains(&found) => roles.push(found),
            Some(_) => scope.conflict(role.span(), "this role is listed twice", "write it once"),
            None => {
                let known: Vec<&str> = Role::ALL.iter().map(|r| r.as_str()).collect();
                let message = format!("unknown role '{}'", role.get_ref());
                match read::nearest(role.get_ref(), &known) {
                    Some(near) => {
                        scope.hinted(role.span(), message, format!("did you mean '{near}'?"));
                    }
                    None => {
                        scope.hinted(role.span(), message, format!("known: {}", known.join(", ")));
                    }
                }
            }
        }
    }
    roles
}

fn listen(
    typed: Option<Spanned<String>>,
    span: Range<usize>,
    scope: &mut ResolveScope<'_>,
) -> SocketAddr {
    let fallback = SocketAddr::from(([0, 0, 0, 0], 443));
    let hint = "for example listen = \"0.0.0.0:443\", or \"[::]:443\" for IPv6 too";
    let Some(typed) = scope.required(typed, span, "listen of a site system", hint) else {
        return fallback;
    };
    match typed.get_ref().parse() {
        Ok(address) => address,
        Err(_) => {
            scope.hinted(typed.span(), "listen is not an address with a port", hint);
            fallback
        }
    }
}

fn hosts(
    typed: Option<Spanned<Vec<Spanned<String>>>>,
    span: Range<usize>,
    site: &SiteConfig,
    scope: &mut ResolveScope<'_>,
) -> Vec<String> {
    let mut hosts = Vec::new();
    let hint = "the names that clients use: hosts = [\"mp01.contoso.com\"]";
    let typed = scope.required(typed, span.clone(), "hosts of a site system", hint);
    let typed = typed.map(|h| h.into_inner());
    let is_empty = typed.as_ref().is_some_and(Vec::is_empty);
    for host in typed.unwrap_or_default() {
        let text = host.get_ref();
        let read = match text.parse::<IpAddr>() {
            Ok(ip) => Some(ip.to_string()),
            Err(_) => site::host_name(text),
        };
        match read {
            Some(name) => {
                outside_domains(&name, host.span(), site, scope);
                hosts.push(name);
            }
            None => scope.hinted(host.span(), format!("'{text}' is not a host name"), hint),
        }
    }
    if is_empty {
        scope.coded(ConfigCode::Missing, span, "a site system needs at least one host", hint);
    }
    hosts
}

/// The site's root may be constrained to its domains: it cannot issue for a host outside.
fn outside_domains(
    host: &str,
    span: Range<usize>,
    site: &SiteConfig,
    scope: &mut ResolveScope<'_>,
) {
    let ip = host.parse::<IpAddr>().is_ok();
    let inside = site.domains.iter().any(|d| {
        host == d || host.strip_suffix(d.as_str()).is_some_and(|rest| rest.ends_with('.'))
    });
    if site.issues_certificates && !site.domains.is_empty() && !ip && !inside {
        let message = format!("{host} is in none of the site's domains");
        scope.conflict(span, message, "add its domain to [site] domains, or correct the host");
    }
}

fn accepted(
    typed: Option<Spanned<Vec<Spanned<String>>>>,
    known: &[String],
    scope: &mut ResolveScope<'_>,
) -> Vec<String> {
    let Some(typed) = typed else { return known.to_vec() };
    let mut accepted = Vec::new();
    for name in typed.into_inner() {
        if known.contains(name.get_ref()) {
            accepted.push(name.into_inner());
            continue;
        }
        let words: Vec<&str> = known.iter().map(String::as_str).collect();
        let message = format!("no token issuer is named '{}'", name.get_ref());
        match read::nearest(name.get_ref(), &words) {
            Some(near) => scope.hinted(name.span(), message, format!("did you mean '{near}'?")),
            None => scope.hinted(name.span(), message, format!("known: {}", words.join(", "))),
        }
    }
    accepted
}

fn token_sources(
    typed: Option<Spanned<Vec<Spanned<String>>>>,
    scope: &mut ResolveScope<'_>,
) -> Vec<TokenSource> {
    let Some(typed) = typed else { return vec![TokenSource::default()] };
    let mut sources = Vec::new();
    for source in typed.into_inner() {
        let (header, scheme) = match source.get_ref().split_once(':') {
            Some((header, scheme)) => (header.trim(), Some(scheme.trim())),
            None => (source.get_ref().trim(), None),
        };
        match TokenSource::new(header, scheme) {
            Some(read) => sources.push(read),
            None => scope.hinted(
                source.span(),
                "not a header name with an optional scheme",
                "for example \"Authorization: Bearer\" or \"X-CCM-Token\"",
            ),
        }
    }
    sources
}
