//! Resolves backends: of a whole site system and of single roles.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::{ConfigError, ResolveScope, certificates, site};
use crate::config::code::ConfigCode;
use crate::config::file::{BackendAuthFile, KeyModeFile, RoleBackendFile, SiteSystemFile};
use crate::config::read::{self, Table};
use crate::config::resolved::{BackendAddress, BackendConfig, BackendTimes};
use crate::config::spanned::Spanned;
use crate::config::units::Span;
use crate::route::{Destination, Role, RouteTable, TokenHandling};
use crate::secret::{BasicCredential, Exposure, PasswordSource};

const HINT: &str = "for example backend = \"http://127.0.0.1:80\", \"https://mp01.contoso.com\" \
                    or \"unix:/run/backend.sock\"";

/// The keys that both kinds share.
struct BackendKeys<'a> {
    url: &'a Option<Spanned<String>>,
    ca: &'a Option<Spanned<String>>,
    name: &'a Option<Spanned<String>>,
    auth: &'a Option<Spanned<BackendAuthFile>>,
    /// Whether its secrets may be world-readable.
    exposed_allowed: bool,
    times: BackendTimes,
    connections: usize,
    requests: Option<usize>,
}

/// The backend of a site system.
pub(super) fn of_site_system(
    file: &SiteSystemFile,
    span: Range<usize>,
    scope: &mut ResolveScope<'_>,
) -> BackendConfig {
    let times = BackendTimes {
        connect: time(&file.backend_connect_time, Duration::from_secs(5)),
        answer: time(&file.backend_answer_time, Duration::from_secs(300)),
        // IIS keeps idle connections for two minutes; close them before it does.
        idle: time(&file.backend_idle_time, Duration::from_secs(55)),
        websocket: time(&file.websocket_idle_time, Duration::from_secs(600)),
    };
    let keys = BackendKeys {
        url: &file.backend,
        ca: &file.backend_ca,
        name: &file.backend_name,
        auth: &file.backend_auth,
        exposed_allowed: exposed_allowed(file),
        times,
        connections: file.backend_connections.as_ref().map_or(256, |c| *c.get_ref() as usize),
        requests: requests(&file.backend_requests, scope),
    };
    resolve(keys, "backend of a site system", span, scope)
}

/// The backends of single roles; unset keys are inherited from the site system's backend.
pub(super) fn of_roles(
    system: &Table<'_>,
    roles: &[Role],
    own: &BackendConfig,
    exposed_allowed: bool,
    scope: &mut ResolveScope<'_>,
) -> Vec<(Role, BackendConfig)> {
    let section = "[[site_system.role_backend]]";
    let tables = system
        .get("role_backend")
        .map(|value| read::tables(value, "site_system.role_backend", scope.errors))
        .unwrap_or_default();
    let mut found: Vec<(Role, BackendConfig)> = Vec::new();
    for (span, table) in tables {
        let file: RoleBackendFile = read::section(table, span.clone(), section, scope.errors);
        let times = BackendTimes {
            connect: time(&file.backend_connect_time, own.times.connect),
            answer: time(&file.backend_answer_time, own.times.answer),
            idle: time(&file.backend_idle_time, own.times.idle),
            websocket: own.times.websocket,
        };
        let keys = BackendKeys {
            url: &file.backend,
            ca: &file.backend_ca,
            name: &file.backend_name,
            auth: &file.backend_auth,
            exposed_allowed,
            times,
            connections: own.connections,
            requests: own.requests,
        };
        let backend = resolve(keys, "backend of a role_backend", span.clone(), scope);
        let words: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let hint = format!("one of the site system's roles: {}", words.join(", "));
        let Some(typed) = scope.required(file.role, span, "role of a role_backend", &hint) else {
            continue;
        };
        match Role::from_name(typed.get_ref()).filter(|role| roles.contains(role)) {
            Some(role) if found.iter().any(|(other, _)| *other == role) => {
                scope.conflict(typed.span(), "this role has a backend already", "write one table");
            }
            Some(role) => found.push((role, backend)),
            None => {
                let message = format!("'{}' is not a role of this site system", typed.get_ref());
                scope.conflict(typed.span(), message, hint);
            }
        }
    }
    found
}

/// Whether secrets of a site system may be world-readable.
pub(super) fn exposed_allowed(file: &SiteSystemFile) -> bool {
    file.key_mode.as_ref().is_some_and(|mode| *mode.get_ref() == KeyModeFile::Any)
}

fn requests(value: &Option<Spanned<u32>>, scope: &mut ResolveScope<'_>) -> Option<usize> {
    let value = value.as_ref()?;
    if *value.get_ref() == 0 {
        scope.error(value.span(), "backend_requests must be at least 1");
    }
    Some(*value.get_ref() as usize)
}

fn time(value: &Option<Spanned<Span>>, default: Duration) -> Duration {
    value.as_ref().map_or(default, |v| v.get_ref().0)
}

fn resolve(
    keys: BackendKeys<'_>,
    what: &str,
    span: Range<usize>,
    scope: &mut ResolveScope<'_>,
) -> BackendConfig {
    let typed = scope.required(keys.url.clone(), span, what, HINT);
    let url = typed.as_ref().map(|u| u.get_ref().clone()).unwrap_or_default();
    let at = typed.as_ref().map_or(0..0, Spanned::span);
    let (address, tls) = match address(&url) {
        Some(found) => found,
        None => {
            if typed.is_some() {
                scope.hinted(at.clone(), format!("'{url}' is not a backend"), HINT);
            }
            (BackendAddress::Host(String::new(), 80), false)
        }
    };
    for (key, set) in [("backend_ca", keys.ca), ("backend_name", keys.name)] {
        if let Some(value) = set.as_ref().filter(|_| !tls) {
            let message = format!("{key} is for https backends only");
            scope.conflict(value.span(), message, "write an https backend, or leave it out");
        }
    }
    let ca = keys.ca.as_ref().map(|ca| {
        let path = scope.path(ca.get_ref());
        if !path.is_file() {
            scope.no_file(ca.span(), &path);
        }
        path
    });
    let host = match &address {
        BackendAddress::Host(host, _) => host.clone(),
        BackendAddress::Unix(_) | BackendAddress::SiteServer => String::new(),
    };
    let (name, at) = match keys.name {
        Some(name) => (name.get_ref().clone(), name.span()),
        None => (host, at),
    };
    let tls_name = tls.then(|| ServerName::try_from(name)).and_then(|name| {
        name.inspect_err(|_| scope.error(at, "no certificate can have this name")).ok()
    });
    let BackendKeys { times, connections, requests, .. } = keys;
    let mut backend =
        BackendConfig { url, address, tls_name, ca, auth: None, times, connections, requests };
    if let Some(typed) = keys.auth {
        backend.auth = auth(typed, &backend, keys.exposed_allowed, scope);
    }
    backend
}

/// The source of the account for authentication to a backend. It must exist and be valid.
fn auth(
    typed: &Spanned<BackendAuthFile>,
    backend: &BackendConfig,
    exposed_allowed: bool,
    scope: &mut ResolveScope<'_>,
) -> Option<PasswordSource> {
    let hint = "basic = \"file:/etc/sitegate/backend-account\"";
    let basic = scope.required(
        typed.get_ref().basic.clone(),
        typed.span(),
        "basic of a backend_auth",
        hint,
    )?;
    if backend.tls_name.is_none() && !is_at_home(backend) {
        let message =
            format!("backend_auth would send a password to {} over plain HTTP", backend.url);
        scope.exposed(basic.span(), message, "use https or a loopback address");
    }
    let source = certificates::secret_source(&basic, "basic of a backend_auth", scope)?;
    match (BasicCredential::read(&source), &source) {
        (Ok((_, Exposure::Everyone)), _) if !exposed_allowed => scope.exposed(
            basic.span(),
            "every user of this machine can read the account of backend_auth",
            "chmod 640, or write key_mode = \"any\"",
        ),
        (Ok(_), _) => {}
        // `sitegate check` may run with another environment than the service.
        (Err(error), PasswordSource::Env(name)) => {
            let message = format!("the account in the variable {name} cannot be used: {error}");
            let error = ConfigError::at(basic.span(), message).code(ConfigCode::File);
            scope.errors.push(error.warning());
        }
        (Err(error), PasswordSource::File(path)) => scope.coded(
            ConfigCode::File,
            basic.span(),
            format!("the account in {} cannot be used: {error}", path.display()),
            "one line: a user name, a colon and a password",
        ),
    }
    Some(source)
}

/// `http://host[:port]`, `https://host[:port]` or `unix:/path`, and whether it is TLS.
fn address(url: &str) -> Option<(BackendAddress, bool)> {
    if let Some(path) = url.strip_prefix("unix:") {
        return path.starts_with('/').then(|| (BackendAddress::Unix(path.into()), false));
    }
    let (rest, tls) = match url.strip_prefix("http://") {
        Some(rest) => (rest, false),
        None => (url.strip_prefix("https://")?, true),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let default_port = if tls { 443 } else { 80 };
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return Some((BackendAddress::Host(address.ip().to_string(), address.port()), tls));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|p| *p != 0)?),
        None => (rest, default_port),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = match bare.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => site::host_name(host)?,
    };
    Some((BackendAddress::Host(host, port), tls))
}

/// Whether plain-text traffic to it stays on this machine. An invalid address has its own error, so
/// it counts as local.
fn is_at_home(backend: &BackendConfig) -> bool {
    match &backend.address {
        BackendAddress::Unix(_) | BackendAddress::SiteServer => true,
        BackendAddress::Host(host, _) if host.is_empty() => true,
        BackendAddress::Host(host, _) => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

/// Rejects configurations that forward tokens over plain HTTP to another machine.
pub(super) fn cleartext(
    own: &BackendConfig,
    of_roles: &[(Role, BackendConfig)],
    routes: &RouteTable,
    // Why all credentials of clients are forwarded, if they are.
    sends_all: Option<&str>,
    accepted: Option<Spanned<String>>,
    span: Range<usize>,
    scope: &mut ResolveScope<'_>,
) {
    if let Some(value) = accepted.as_ref().filter(|v| v.get_ref() != "accepted") {
        scope.hinted(
            value.span(),
            "cleartext has an unknown value",
            "write cleartext = \"accepted\"",
        );
    }
    let in_clear = |backend: &BackendConfig| {
        backend.tls_name.is_none() && !is_at_home(backend) && accepted.is_none()
    };
    let hint = "use https or a loopback address, or write cleartext = \"accepted\"";
    let all = || std::iter::once(own).chain(of_roles.iter().map(|(_, backend)| backend));
    if let (Some(why), Some(backend)) = (sends_all, all().find(|backend| in_clear(backend))) {
        let message = format!("{why} forwards requests to {} over plain HTTP", backend.url);
        return scope.exposed(span, message, hint);
    }
    let leads_to = |destination: Destination| match destination {
        Destination::Backend => Some(own),
        Destination::Role(role) => of_roles.iter().find(|(of, _)| *of == role).map(|(_, b)| b),
        Destination::TokenService | Destination::SiteServer | Destination::Publication => None,
    };
    for route in routes.iter().filter(|route| route.token == TokenHandling::Forward) {
        if let Some(backend) = leads_to(route.destination).filter(|backend| in_clear(backend)) {
            let url = &backend.url;
            let message =
                format!("route '{}' forwards tokens to {url} over plain HTTP", route.name);
            return scope.exposed(span, message, hint);
        }
    }
}
