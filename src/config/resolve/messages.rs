//! Resolves the message rules: `site_system.message_guard`, `message_endpoints`,
//! `message_requests`, `location_queries` and `[site_system.alt_auth]`.

use super::{ConfigError, ResolveScope, balancers};
use crate::config::code::ConfigCode;
use crate::config::file::{AltAuthFile, MessageGuardFile};
use crate::config::resolved::{AltAuth, MessageGuard};
use crate::config::spanned::Spanned;
use crate::route::{Requirement, Role, RouteTable, is_word};

type TypedNames<T> = Option<Spanned<T>>;
type Names = TypedNames<Vec<Spanned<String>>>;

const NETWORKS: &str = "where media start: networks = [\"10.20.0.0/16\"]";
const ENDPOINTS: &str = "for example [\"MP_LocationManager\"]; the access log has the names";

const REQUESTS: &str = "for example [\"WSUSLocationRequest\"]; the access log has the names";
const QUERIES: &str = "a query's first word, for example [\"MPCERT3\"]; the access log has it";

pub(super) fn guard(typed: TypedNames<MessageGuardFile>) -> MessageGuard {
    match typed.map(Spanned::into_inner) {
        Some(MessageGuardFile::Off) => MessageGuard::Off,
        Some(MessageGuardFile::Shape) | None => MessageGuard::Shape,
        Some(MessageGuardFile::Device) => MessageGuard::Device,
    }
}

/// The endpoints that messages with a token may address; `None` for any.
pub(super) fn endpoints(
    typed: Names,
    guard: MessageGuard,
    scope: &mut ResolveScope<'_>,
) -> Option<Vec<String>> {
    let typed = typed?;
    if guard == MessageGuard::Off {
        let message = "message_endpoints without a message_guard";
        scope.conflict(typed.span(), message, "write message_guard = \"shape\", or leave it out");
    }
    if typed.get_ref().is_empty() {
        let message = "no message can match any of these";
        scope.coded(ConfigCode::Missing, typed.span(), message, ENDPOINTS);
    }
    Some(names(typed, scope))
}

/// The requests that messages without a token may contain, besides those that clients without a
/// token need.
pub(super) fn requests(typed: Names, scope: &mut ResolveScope<'_>) -> Vec<String> {
    let plain = |text: &str| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        (1..=64).contains(&text.len()) && text.bytes().all(word)
    };
    words(typed, "request", REQUESTS, plain, scope)
}

/// The queries that the location route accepts besides its preset's, in capitals.
pub(super) fn queries(typed: Names, roles: &[Role], scope: &mut ResolveScope<'_>) -> Vec<String> {
    let named = typed.as_ref().filter(|typed| !typed.get_ref().is_empty());
    if let Some(typed) = named.filter(|_| !roles.contains(&Role::ManagementPoint)) {
        let message = "location_queries on a site system without a management point";
        scope.conflict(typed.span(), message, "location is the management point's");
    }
    let words = words(typed, "query", QUERIES, is_word, scope);
    words.into_iter().map(|word| word.to_ascii_uppercase()).collect()
}

/// The words of a list. `plain` checks each one.
fn words(
    typed: Names,
    one: &str,
    hint: &str,
    plain: impl Fn(&str) -> bool,
    scope: &mut ResolveScope<'_>,
) -> Vec<String> {
    let mut words = Vec::new();
    for word in typed.map(Spanned::into_inner).unwrap_or_default() {
        if plain(word.get_ref()) {
            words.push(word.into_inner());
        } else {
            let message = format!("'{}' is no {one}", word.get_ref());
            scope.hinted(word.span(), message, hint);
        }
    }
    words
}

/// The networks and endpoints of the AltAuth namespaces of these routes.
pub(super) fn alt_auth(
    typed: TypedNames<AltAuthFile>,
    routes: &RouteTable,
    scope: &mut ResolveScope<'_>,
) -> Option<AltAuth> {
    let typed = typed?;
    let span = typed.span();
    if !routes.iter().any(|route| route.requirement == Requirement::AltAuth) {
        let message = "alt_auth on a site system without AltAuth namespaces";
        scope.conflict(span.clone(), message, "they are the management point's");
    }
    let AltAuthFile { networks, endpoints } = typed.into_inner();
    let networks = required(networks, &span, "networks of alt_auth", NETWORKS, scope)?;
    let endpoints = required(endpoints, &span, "endpoints of alt_auth", ENDPOINTS, scope)?;
    let mut read = Vec::new();
    for network in networks.get_ref() {
        let Some(found) = balancers::network(network, NETWORKS, scope) else { continue };
        if found.prefix_len() == 0 {
            scope.errors.push(
                ConfigError::at(network.span(), "any client may use AltAuth")
                    .code(ConfigCode::Open)
                    .hint(
                        "any of them may register as a client; list only the networks where boot \
                         media start",
                    )
                    .warning(),
            );
        }
        read.push(found);
    }
    Some(AltAuth { networks: read, endpoints: names(endpoints, scope) })
}

fn required(
    typed: Names,
    span: &std::ops::Range<usize>,
    what: &str,
    hint: &str,
    scope: &mut ResolveScope<'_>,
) -> Option<Spanned<Vec<Spanned<String>>>> {
    let typed = scope.required(typed, span.clone(), what, hint)?;
    if typed.get_ref().is_empty() {
        scope.coded(ConfigCode::Missing, typed.span(), format!("{what} is empty"), hint);
    }
    Some(typed)
}

/// Endpoint names, as they appear in an envelope.
fn names(typed: Spanned<Vec<Spanned<String>>>, scope: &mut ResolveScope<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for name in typed.into_inner() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let text = name.get_ref();
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            names.push(name.into_inner());
        } else {
            scope.hinted(name.span(), format!("'{text}' is not an endpoint"), ENDPOINTS);
        }
    }
    names
}
