//! Resolves `[site_system.plain_http]`.

use std::net::SocketAddr;
use std::ops::Range;

use super::{ConfigError, ResolveScope, balancers};
use crate::config::code::ConfigCode;
use crate::config::file::{PlainHttpFile, PlainHttpModeFile};
use crate::config::resolved::{PlainHttp, PlainHttpMode, SiteSystem};
use crate::config::spanned::Spanned;

const LISTEN: &str = "for example listen = \"0.0.0.0:80\"";

pub(super) fn resolve(
    typed: Option<Spanned<PlainHttpFile>>,
    scope: &mut ResolveScope<'_>,
) -> Option<PlainHttp> {
    let typed = typed?;
    let span = typed.span();
    let PlainHttpFile { listen, mode } = typed.into_inner();
    let mode_at = mode.as_ref().map(Spanned::span);
    let mode = match mode.map(Spanned::into_inner) {
        Some(PlainHttpModeFile::Redirect) => PlainHttpMode::Redirect,
        Some(PlainHttpModeFile::Pass) => PlainHttpMode::Pass,
        Some(PlainHttpModeFile::Refuse) | None => PlainHttpMode::Refuse,
    };
    if let (PlainHttpMode::Pass, Some(at)) = (mode, mode_at) {
        scope.errors.push(
            ConfigError::at(at, "plain HTTP passes: no token is required there")
                .code(ConfigCode::Open)
                .hint(
                    "sitegate_clear_requests_total counts the remaining requests; write \"refuse\" \
                     when there are none",
                )
                .warning(),
        );
    }
    let listen = scope.required(listen, span, "listen of plain_http", LISTEN)?;
    match listen.get_ref().parse::<SocketAddr>() {
        Ok(listen) => Some(PlainHttp { listen, mode }),
        Err(_) => {
            scope.hinted(listen.span(), "listen is not an address with a port", LISTEN);
            None
        }
    }
}

/// Rejects shared addresses: an address is either for TLS or for plain HTTP, and on the latter only
/// the Host header selects the site system.
pub(super) fn clashes(systems: &[(Range<usize>, SiteSystem)], scope: &mut ResolveScope<'_>) {
    for (n, (span, system)) in systems.iter().enumerate() {
        let Some(plain) = &system.plain_http else { continue };
        if let Some((_, tls)) = systems.iter().find(|(_, other)| other.listen == plain.listen)
            && plain.listen.port() != 0
        {
            let message = format!(
                "plain HTTP of '{}' on {}, where '{}' listens with TLS",
                system.name, plain.listen, tls.name
            );
            scope.conflict(span.clone(), message, LISTEN);
        }
        for (_, other) in systems.iter().take(n) {
            if other.plain_http.as_ref().is_none_or(|theirs| theirs.listen != plain.listen) {
                continue;
            }
            balancers::agree(other, system, span, scope);
            if other.default && system.default {
                let message = format!(
                    "'{}' and '{}' are both the default site system for plain HTTP",
                    other.name, system.name
                );
                scope.conflict(span.clone(), message, "one site system of an address may be");
            }
            if let Some(host) = system.hosts.iter().find(|host| other.hosts.contains(host)) {
                let message = format!(
                    "'{}' and '{}' both have the host {host} for plain HTTP",
                    other.name, system.name
                );
                scope.conflict(span.clone(), message, "give them different hosts or addresses");
            }
        }
    }
}
