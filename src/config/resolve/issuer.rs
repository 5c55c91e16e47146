//! Resolves `[[token_issuer]]`.

use std::ops::Range;

use super::{ResolveScope, keys};
use crate::config::code::ConfigCode;
use crate::config::file::{KindFile, TokenIssuerFile};
use crate::config::read::{self, Table};
use crate::config::resolved::{IssuerConfig, KeySource, SiteConfig, SiteSystem};
use crate::token::{self, OidcClaims};

/// The name of the site's own issuer.
const OWN: &str = "site";

pub(super) fn resolve_all(
    tables: Vec<(Range<usize>, &Table<'_>)>,
    site: &SiteConfig,
    scope: &mut ResolveScope<'_>,
) -> Vec<IssuerConfig> {
    let mut issuers: Vec<IssuerConfig> = Vec::new();
    for (span, table) in tables {
        let file: TokenIssuerFile =
            read::section(table, span.clone(), "[[token_issuer]]", scope.errors);
        let Some(issuer) = resolve(file, span.clone(), site, scope) else { continue };
        if issuers.iter().any(|other| other.policy.name == issuer.policy.name) {
            let message = format!("two token issuers are named '{}'", issuer.policy.name);
            scope.conflict(span.clone(), message, "give them different names");
        }
        let both = |other: &&IssuerConfig| {
            other.policy.accepts.iter().any(|iss| issuer.policy.accepts.contains(iss))
        };
        if let Some(other) = issuers.iter().find(both) {
            let message =
                format!("'{}' and '{}' accept the same iss", other.policy.name, issuer.policy.name);
            scope.conflict(span, message, "a key is bound to one issuer; merge the two tables");
        }
        issuers.push(issuer);
    }
    issuers
}

/// The issuer names that a site system may accept, including the site's own.
pub(super) fn names(issuers: &[IssuerConfig]) -> Vec<String> {
    let mut names = vec![OWN.to_owned()];
    for issuer in issuers {
        if &*issuer.policy.name != OWN {
            names.push(issuer.policy.name.to_string());
        }
    }
    names
}

/// The site's own issuer: the `iss` of its tokens is the URL of its metadata, and its own key signs
/// them. With a token service, a token may be restricted to one of the site's systems, which is
/// then its audience.
pub(super) fn add_own(issuers: &mut Vec<IssuerConfig>, site: &SiteConfig, systems: &[SiteSystem]) {
    let accepts = vec![site.token_issuer.clone()];
    let mut policy = token::Issuer::site(OWN, None, accepts);
    if let token::IssuerKind::Site { hierarchy } = &mut policy.kind {
        *hierarchy = site.hierarchy;
    }
    if systems.iter().any(|system| system.token_service) {
        policy.audiences.extend(systems.iter().flat_map(SiteSystem::origins));
    }
    issuers.insert(0, IssuerConfig { policy, keys: KeySource::Site });
}

fn resolve(
    mut file: TokenIssuerFile,
    span: Range<usize>,
    site: &SiteConfig,
    scope: &mut ResolveScope<'_>,
) -> Option<IssuerConfig> {
    let keys = keys::TypedKeys::take(&mut file);
    let hint = "for example name = \"entra\"";
    let name = scope.required(file.name, span.clone(), "name of a token issuer", hint);
    let hint = "kind = \"site\", \"entra\" or \"oidc\"";
    let kind = scope.required(file.kind, span.clone(), "kind of a token issuer", hint);
    let (name, kind) = (name?, kind?.into_inner());
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.get_ref().is_empty() || !name.get_ref().bytes().all(plain) {
        scope.error(name.span(), "a name is letters, digits, '-', '_' and '.'");
    }
    for (key, set, only) in [
        ("tenant", file.tenant.as_ref().map(|t| t.span()), KindFile::Entra),
        ("device_claim", file.device_claim.as_ref().map(|t| t.span()), KindFile::Oidc),
        ("user_claim", file.user_claim.as_ref().map(|t| t.span()), KindFile::Oidc),
    ] {
        if let Some(at) = set.filter(|_| kind != only) {
            let message = format!("{key} is not allowed for this kind of issuer");
            scope.conflict(at, message, "remove it, or write another kind");
        }
    }
    let extra = file.issuer.map(|i| (i.span(), i.into_inner().into_vec()));
    let (extra_at, extra) = extra.unwrap_or((span.clone(), Vec::new()));
    let mut policy = match kind {
        KindFile::Site => {
            if site.hierarchy.is_none() && extra.is_empty() {
                let hint = "write hierarchy in [site], or issuer here";
                scope.coded(ConfigCode::Missing, span.clone(), "the issuer's iss is unknown", hint);
            }
            let mut policy = token::Issuer::site(name.get_ref(), site.hierarchy, extra);
            if site.hierarchy.is_none()
                && let token::IssuerKind::Site { hierarchy } = &mut policy.kind
            {
                *hierarchy = None;
            }
            policy
        }
        KindFile::Entra => {
            let hint = "the directory's GUID: tenant = \"72f988bf-…\"";
            let tenant =
                scope.required(file.tenant, span.clone(), "tenant of an Entra issuer", hint)?;
            let Ok(guid) = tenant.get_ref().parse() else {
                scope.hinted(tenant.span(), "tenant is not a GUID", hint);
                return None;
            };
            token::Issuer::entra(name.get_ref(), guid, extra)
        }
        KindFile::Oidc => {
            let claims = OidcClaims {
                device: file.device_claim.map(|c| c.into_inner()),
                user: file.user_claim.map(|c| c.into_inner()),
            };
            if claims == OidcClaims::default() {
                let hint = "name the claim that holds the id: user_claim = \"sub\"";
                let message = "neither device_claim nor user_claim is set";
                scope.coded(ConfigCode::Missing, span.clone(), message, hint);
            }
            let [issuer] = extra.as_slice() else {
                let hint = "write the provider's iss: issuer = \"https://…\"";
                scope.conflict(extra_at, "an oidc issuer has exactly one iss", hint);
                return None;
            };
            token::Issuer::oidc(name.get_ref(), issuer, claims)
        }
    };
    if let Some(audiences) = file.audiences {
        policy.audiences = audiences.into_inner().into_iter().map(|a| a.into_inner()).collect();
    }
    if policy.audiences.is_empty() {
        let hint = "the aud of this site's tokens: audiences = [\"https://ConfigMgrService\"]";
        scope.coded(ConfigCode::Missing, span.clone(), "the issuer has no audience", hint);
    }
    let seconds = |s: &crate::config::Span| i64::try_from(s.0.as_secs()).unwrap_or(i64::MAX);
    if let Some(leeway) = file.leeway {
        if seconds(leeway.get_ref()) > 3600 {
            scope.error(leeway.span(), "a leeway over an hour makes expiry meaningless");
        }
        policy.leeway_s = seconds(leeway.get_ref());
    }
    if let Some(longest) = file.lifetime_max {
        policy.lifetime_max_s = Some(seconds(longest.get_ref()));
    }
    if let Some(exchange) = file.exchange {
        policy.exchange = exchange.into_inner();
    }
    let keys = keys.resolve(&policy, span, scope)?;
    Some(IssuerConfig { policy, keys })
}
