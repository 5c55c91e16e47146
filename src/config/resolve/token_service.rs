//! Resolves `[token_service]`.

use std::num::NonZeroU32;
use std::time::Duration;

use super::ResolveScope;
use super::certificates::secret_source;
use crate::config::code::ConfigCode;
use crate::config::file::{AlgorithmFile, ApprovalFile, ClaimedIdsFile, TokenServiceFile};
use crate::config::resolved::{SiteConfig, SiteSystem, TokenServiceConfig, TokenServiceStore};
use crate::config::spanned::Spanned;
use crate::config::units::Span;
use crate::route::{CanonicalPath, Role, preset};
use crate::token::SignerKind;

const PATH: &str = "/sitegate/oauth2";
const PATH_BYTES_MAX: usize = 256;
const DAY: Duration = Duration::from_secs(86_400);
const RETURN_GRACE_DAYS_MAX: u32 = 365;
const KEPT_DAYS_MAX: u32 = 3_650;

pub(super) fn resolve(file: TokenServiceFile, scope: &mut ResolveScope<'_>) -> TokenServiceConfig {
    let mut number = |typed: Option<Spanned<u32>>, key: &str, default: u32| {
        let number = typed.as_ref().map_or(default, |typed| *typed.get_ref());
        NonZeroU32::new(number).unwrap_or_else(|| {
            let at = typed.map_or(0..0, |typed| typed.span());
            scope.error(at, format!("{key} must be at least 1"));
            NonZeroU32::MIN
        })
    };
    let registrations_per_minute =
        number(file.registrations_per_minute, "registrations_per_minute", 60);
    let requests_per_minute = number(file.requests_per_minute, "requests_per_minute", 600);
    TokenServiceConfig {
        path: path(file.path, scope),
        approval_automatic: file.approval.map(Spanned::into_inner) != Some(ApprovalFile::Manual),
        claims_accepted: file.claimed_ids.map(Spanned::into_inner) == Some(ClaimedIdsFile::Accept),
        signing: match file.algorithm.map(Spanned::into_inner) {
            Some(AlgorithmFile::Es256) => SignerKind::P256,
            Some(AlgorithmFile::Rs256) | None => SignerKind::Rsa2048,
        },
        return_grace: days(file.return_grace, "return_grace", 30, RETURN_GRACE_DAYS_MAX, scope),
        tokens_kept: days(file.tokens_kept, "tokens_kept", 30, KEPT_DAYS_MAX, scope),
        audit_kept: days(file.audit_kept, "audit_kept", 365, KEPT_DAYS_MAX, scope),
        registrations_per_minute,
        requests_per_minute,
        store: match file.store.and_then(|typed| secret_source(&typed, "store", scope)) {
            Some(source) => TokenServiceStore::Postgres(source),
            None => TokenServiceStore::Embedded,
        },
    }
}

/// The path of the service: in canonical form, and not used by any role.
fn path(typed: Option<Spanned<String>>, scope: &mut ResolveScope<'_>) -> String {
    let Some(typed) = typed else { return PATH.to_owned() };
    let text = typed.get_ref();
    let hint = format!("for example path = \"{PATH}\"");
    let one_spelling = CanonicalPath::parse(text.as_bytes(), PATH_BYTES_MAX)
        .is_ok_and(|path| path.as_str() == text);
    // It becomes part of URLs and of router patterns, in which other characters have a meaning.
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/-_.".contains(&b);
    let is_plain = text.bytes().all(plain) && !text.starts_with("/.well-known");
    if !one_spelling || text.len() < 2 || text.ends_with('/') || !is_plain {
        let message = "path is not an absolute path of small letters, digits, '-', '_' and '.'";
        scope.hinted(typed.span(), message, hint);
        return PATH.to_owned();
    }
    let Ok(canonical) = CanonicalPath::parse(text.as_bytes(), PATH_BYTES_MAX) else {
        return PATH.to_owned();
    };
    let taken = Role::ALL.into_iter().flat_map(preset).find(|route| {
        let pattern = route.pattern.to_string();
        let stem = pattern.trim_end_matches('/');
        canonical.as_str() == stem
            || canonical.as_str().starts_with(&format!("{stem}/"))
            || stem.starts_with(&format!("{text}/"))
    });
    if let Some(route) = taken {
        let message = format!("the path is within the route '{}' of a role", route.name);
        scope.hinted(typed.span(), message, hint);
        return PATH.to_owned();
    }
    typed.into_inner()
}

/// A duration with its default and its maximum, in days.
fn days(
    typed: Option<Spanned<Span>>,
    key: &str,
    default: u32,
    most: u32,
    scope: &mut ResolveScope<'_>,
) -> Duration {
    match typed {
        Some(typed) if typed.get_ref().0 > most * DAY => {
            scope.error(typed.span(), format!("{key} is at most {most}d"));
            most * DAY
        }
        Some(typed) => typed.get_ref().0,
        None => default * DAY,
    }
}

/// The issuer of the site's own tokens, which is also the location of their metadata (RFC 8414 §2).
pub(super) fn issuer(
    site: &mut SiteConfig,
    configured: Option<std::ops::Range<usize>>,
    service: &TokenServiceConfig,
    systems: &[SiteSystem],
    scope: &mut ResolveScope<'_>,
) {
    let on = systems.iter().find(|system| system.token_service);
    let first = on.or(systems.first());
    if site.token_issuer.is_empty() && systems.iter().any(SiteSystem::is_site_server) {
        let message = "a site server's tokens need an issuer that does not depend on this \
                       machine's name";
        let hint = format!(
            "write token_issuer in [site]: https://, the name of a management point of the site, and {}",
            service.path
        );
        scope.coded(ConfigCode::Missing, configured.clone().unwrap_or(0..0), message, hint);
    }
    if site.token_issuer.is_empty() {
        let origin = first.and_then(|system| match on {
            Some(_) => system.origins().next(),
            // No token service answers there, so the URL is only a name.
            None => system.hosts.first().map(|host| format!("https://{host}")),
        });
        site.token_issuer =
            origin.map(|origin| format!("{origin}{}", service.path)).unwrap_or_default();
        return;
    }
    let is_there = site.token_issuer.strip_suffix(&service.path).is_some_and(|origin| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        origin
            .strip_prefix("https://")
            .is_some_and(|host| !host.is_empty() && host.bytes().all(plain))
    });
    if on.is_some() && !is_there {
        let hint = format!(
            "write https://, the name of a site system, and {}; or leave it out",
            service.path
        );
        scope.conflict(
            configured.unwrap_or(0..0),
            "token_issuer is not the URL of the token service",
            hint,
        );
    }
}
