//! Resolves the raw sections into typed settings, one function for each section.
//!
//! No function stops at the first fault: a faulty section gets its default, so that the faults of
//! the others are found too.

mod backend;
mod balancers;
mod certificates;
mod following;
mod issuer;
mod keys;
mod listeners;
mod messages;
mod mode;
mod plain_http;
mod route;
mod site;
mod site_system;
mod token_service;

use std::path::Path;

use jiff::Timestamp;

use super::code::ConfigCode;
use super::error::ConfigError;
use super::file::{ListenFile, LogFile, SiteFile, SiteServerFile, TokenServiceFile};
use super::limits::{Limits, LimitsFile};
use super::read::{self, Table};
use super::resolved::Config;
use super::scope::ResolveScope;
use super::spanned::Spanned;
pub(super) use site::{STATE, host_name};

/// The default addresses of status and metrics.
pub(super) const ADMIN: &str = "127.0.0.1:9180";
pub(super) const METRICS: &str = "127.0.0.1:9181";

/// The sections of the file.
pub(super) const SECTIONS: &[&str] = &[
    "site",
    "admin",
    "metrics",
    "log",
    "limits",
    "token_service",
    "site_server",
    "site_system",
    "token_issuer",
];

/// Reads and resolves the whole text. Returns a configuration unless the text is not TOML at all;
/// it may be used only if no error is among the faults.
pub(super) fn resolve(
    text: &str,
    base: &Path,
    now: Timestamp,
) -> (Option<Config>, Vec<ConfigError>) {
    let mut errors = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (document, faults) = toml::de::DeTable::parse_recoverable(text);
    for fault in faults {
        let message = fault.message().trim_end().to_owned();
        errors.push(match fault.span() {
            Some(span) => ConfigError::at(span, message).code(ConfigCode::Syntax),
            None => ConfigError::whole(message).code(ConfigCode::Syntax),
        });
    }
    if !errors.is_empty() {
        // The rest after a syntax error is guesswork: only the syntax errors help.
        return (None, errors);
    }
    let document = document.into_inner();
    let mut scope = ResolveScope { base, now, errors: &mut errors };
    unknown_sections(&document, &mut scope);
    let site_file: SiteFile = single(&document, "site", &mut scope);
    let admin: ListenFile = single(&document, "admin", &mut scope);
    let metrics: ListenFile = single(&document, "metrics", &mut scope);
    let log: LogFile = single(&document, "log", &mut scope);
    let limits: LimitsFile = single(&document, "limits", &mut scope);
    let token_service: TokenServiceFile = single(&document, "token_service", &mut scope);
    let follows: SiteServerFile = single(&document, "site_server", &mut scope);
    let issuers = document
        .get("token_issuer")
        .map(|value| read::tables(value, "token_issuer", scope.errors))
        .unwrap_or_default();
    let systems = document
        .get("site_system")
        .map(|value| read::tables(value, "site_system", scope.errors))
        .unwrap_or_default();

    let at = document.get("site").map(|s| s.span());
    let token_issuer = site_file.token_issuer.as_ref().map(Spanned::span);
    let (mut site, blocklist) = site::resolve(site_file, at, &mut scope);
    let store = token_service.store.as_ref().map(Spanned::span);
    let token_service = token_service::resolve(token_service, &mut scope);
    let following_at = document.get("site_server").map(|s| s.span());
    let site_server = following::resolve(follows, following_at.clone(), &mut scope);
    let limits = Limits::resolve(limits, &mut scope);
    let mut issuers = issuer::resolve_all(issuers, &site, &mut scope);
    let names: Vec<String> = issuer::names(&issuers);
    if let Some(blocklist) = blocklist {
        blocklist.compare(&names, &mut scope);
    }
    let of_site = site_system::OfSite {
        site: &site,
        service: &token_service,
        publishes: site.issues_certificates && site_server.is_none() && following_at.is_none(),
    };
    let admin = site::listen(admin, "admin", ADMIN, &mut scope);
    let metrics = site::listen(metrics, "metrics", METRICS, &mut scope);
    let site_systems = site_system::resolve_all(
        systems,
        &names,
        of_site,
        [("admin", admin), ("metrics", metrics)],
        &mut scope,
    );
    token_service::issuer(&mut site, token_issuer, &token_service, &site_systems, &mut scope);
    issuer::add_own(&mut issuers, &site, &site_systems);
    if following_at.is_some() {
        following::keys_from_the_site_server(&mut issuers, &site);
    }
    following::nothing_else(following_at, store, &site_systems, &mut scope);
    shared_keys(&site, &token_service, &site_systems, &mut scope);
    let config = Config {
        admin,
        metrics,
        log: site::log(log, &mut scope),
        limits,
        token_service,
        site_server,
        site_systems,
        issuers,
        site,
    };
    site::admin_stays_at_home(&config, document.get("admin").map(|s| s.span()), &mut scope);
    (Some(config), errors)
}

/// Requires shared keys: several site servers with separate keys would each tell gateways to trust
/// only itself.
fn shared_keys(
    site: &super::resolved::SiteConfig,
    service: &super::resolved::TokenServiceConfig,
    systems: &[super::resolved::SiteSystem],
    scope: &mut ResolveScope<'_>,
) {
    let shares = matches!(service.store, super::resolved::TokenServiceStore::Postgres(_));
    let serves = systems.iter().any(super::resolved::SiteSystem::is_site_server);
    if shares && serves && site.seal.is_none() {
        let hint = "write seal = \"file:/etc/sitegate/seal\" in [site], with the same 32 random bytes \
                    or more on each site server";
        scope.conflict(
            0..0,
            "a site server on PostgreSQL must share its keys with the others",
            hint,
        );
    }
}

fn unknown_sections(document: &Table<'_>, scope: &mut ResolveScope<'_>) {
    for (key, _) in document.iter() {
        let name: &str = key.get_ref();
        if !SECTIONS.contains(&name) {
            let message = format!("unknown section '{name}'");
            match read::nearest(name, SECTIONS) {
                Some(near) => {
                    scope.coded(
                        ConfigCode::UnknownKey,
                        key.span(),
                        message,
                        format!("did you mean '{near}'?"),
                    );
                }
                None => {
                    scope.coded(
                        ConfigCode::UnknownKey,
                        key.span(),
                        message,
                        format!("known: {}", SECTIONS.join(", ")),
                    );
                }
            }
        }
    }
}

fn single<T: serde::de::DeserializeOwned + Default>(
    document: &Table<'_>,
    name: &str,
    scope: &mut ResolveScope<'_>,
) -> T {
    match document.get(name) {
        Some(value) => match read::table(value, name, scope.errors) {
            Some(table) => read::section(table, value.span(), &format!("[{name}]"), scope.errors),
            None => T::default(),
        },
        None => T::default(),
    }
}
