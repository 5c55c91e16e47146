//! Resolves `[site_server]` and the role of that name, and rejects conflicting settings

use std::ops::Range;
use std::time::Duration;

use super::ResolveScope;
use super::certificates::secret_source;
use crate::config::file::{SiteServerFile, SiteSystemFile, StaleFile};
use crate::config::resolved::{
    BackendAddress, BackendConfig, BackendTimes, Following, IssuerConfig, KeySource, SiteConfig,
    SiteSystem,
};
use crate::config::spanned::Spanned;
use crate::route::Role;

pub(super) fn resolve(
    file: SiteServerFile,
    section: Option<Range<usize>>,
    scope: &mut ResolveScope<'_>,
) -> Option<Following> {
    let section = section?;
    let hint = "the name that the join token was made for: name = \"mp02\"";
    let name = scope.required(file.name, section.clone(), "[site_server] name", hint);
    let hint = "what 'sitegate site join-token' wrote: join = \"file:/etc/sitegate/join-token\"";
    let join = scope.required(file.join, section, "[site_server] join", hint);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if let Some(name) = &name {
        let text = name.get_ref();
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if !fits || text.starts_with('.') {
            scope.error(name.span(), "a name is up to 64 letters, digits, '-', '_' and '.'");
        }
    }
    Some(Following {
        name: name.map(Spanned::into_inner).unwrap_or_default(),
        join: secret_source(&join?, "join", scope)?,
        deny_when_stale: file.stale.map(Spanned::into_inner) == Some(StaleFile::Deny),
    })
}

/// The site's own tokens are verified with the keys from the site server, as files.
pub(super) fn keys_from_the_site_server(issuers: &mut [IssuerConfig], site: &SiteConfig) {
    for issuer in issuers.iter_mut().filter(|issuer| issuer.keys == KeySource::Site) {
        issuer.keys = KeySource::Files(vec![Following::token_keys(&site.state)]);
    }
}

/// A gateway that follows a site server is not one itself, and has no store.
pub(super) fn nothing_else(
    section: Option<Range<usize>>,
    store: Option<Range<usize>>,
    systems: &[SiteSystem],
    scope: &mut ResolveScope<'_>,
) {
    let Some(section) = section else { return };
    if let Some(store) = store {
        let hint = "remove token_service.store, or [site_server]";
        scope.conflict(store, "a gateway that follows a site server has no store of its own", hint);
    }
    if systems.iter().any(|system| system.roles.contains(&Role::SiteServer)) {
        let hint = "remove [site_server] from a configuration with the role site-server";
        scope.conflict(section, "a site server cannot follow another site server", hint);
    }
}

/// A site server is authenticated only by the site's own root, and has no backend.
pub(super) fn site_server_alone(
    roles: &[Role],
    file: &SiteSystemFile,
    site: &SiteConfig,
    scope: &mut ResolveScope<'_>,
) {
    if !roles.contains(&Role::SiteServer) {
        return;
    }
    let at = file.roles.as_ref().map_or(0..0, Spanned::span);
    if !site.issues_certificates {
        let hint = "write certificates = \"enhanced\" in [site]: a site server has a site-issued \
                    certificate";
        scope.conflict(at.clone(), "a site server needs a site that issues certificates", hint);
    }
    if roles.len() > 1 {
        let hint = "give the other roles a [[site_system]] of their own";
        scope.conflict(at.clone(), "a site server has no other role", hint);
    }
    for (key, value) in [("backend", &file.backend), ("pki", &file.pki)] {
        if let Some(value) = value {
            let hint = "gateways trust it by the site's own root, and it has no backend";
            scope.conflict(value.span(), format!("a site server has no {key}"), hint);
        }
    }
    if file.client_certificate.is_some() {
        let hint = "remove client_certificate: gateways send their certificates in any case";
        scope.conflict(at, "a site server checks its gateways' certificates itself", hint);
    }
}

/// The backend of a site server: a service of this process.
pub(super) fn own_backend() -> BackendConfig {
    BackendConfig {
        url: "this process".to_owned(),
        address: BackendAddress::SiteServer,
        tls_name: None,
        ca: None,
        auth: None,
        times: BackendTimes {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            idle: Duration::from_secs(55),
            websocket: Duration::ZERO,
        },
        connections: 256,
        requests: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::second;

    /// A valid site server on PostgreSQL.
    const SERVER: &str = r#"
[site]
code = "PS1"
token_issuer = "https://mp01.contoso.com/sitegate/oauth2"
seal = "env:SEAL"
[token_service]
store = "env:STORE"
[[site_system]]
name = "site01"
roles = ["site-server"]
listen = "127.0.0.1:8443"
hosts = ["site01.contoso.com"]
"#;
    /// A valid gateway that follows one.
    const GATEWAY: &str = r#"
[site]
code = "PS1"
[site_server]
name = "mp02"
join = "env:JOIN"
[[site_system]]
name = "mp02"
roles = ["management-point"]
listen = "127.0.0.1:443"
hosts = ["mp02.contoso.com"]
backend = "http://127.0.0.1:80"
"#;

    fn told(text: &str) -> String {
        let now = second(1_800_000_000);
        match crate::config::parse(text, "x.toml", std::path::Path::new("/"), now) {
            Ok(_) => String::new(),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn what_a_site_server_cannot_have_is_an_error_that_says_so() {
        assert_eq!(told(SERVER), "");
        let roles = "roles = [\"site-server\"]";
        for (from, to, wrong) in [
            (roles, "roles = [\"site-server\", \"management-point\"]", "has no other role"),
            (roles, "roles = [\"site-server\"]\nbackend = \"http://127.0.0.1\"", "has no backend"),
            (roles, "roles = [\"site-server\"]\npki = \"pki\"", "has no pki"),
            (
                roles,
                "roles = [\"site-server\"]\nclient_certificate = \"off\"",
                "checks its gateways' certificates itself",
            ),
            ("seal = \"env:SEAL\"\n", "", "must share its keys with the others"),
            (
                "token_issuer = \"https://mp01.contoso.com/sitegate/oauth2\"\n",
                "",
                "need an issuer that does not depend on this machine",
            ),
            (
                "code = \"PS1\"",
                "code = \"PS1\"\ncertificates = \"pki-only\"",
                "that issues certificates",
            ),
            (
                "[token_service]",
                "[site_server]\nname = \"a\"\njoin = \"env:J\"\n[token_service]",
                "a site server cannot follow another site server",
            ),
        ] {
            let found = told(&SERVER.replace(from, to));
            assert!(found.contains(wrong), "{wrong}: {found}");
        }
    }

    #[test]
    fn settings_a_following_gateway_cannot_have_are_errors() {
        assert_eq!(told(GATEWAY), "");
        for (from, to, wrong) in [
            ("name = \"mp02\"\njoin", "join", "[site_server] name is missing"),
            ("join = \"env:JOIN\"\n", "", "[site_server] join is missing"),
            ("env:JOIN", "sitegate-join.abc", "neither \"file:\" nor \"env:\""),
            ("name = \"mp02\"\njoin", "name = \"../x\"\njoin", "a name is up to 64 letters"),
            (
                "[site_server]",
                "[token_service]\nstore = \"env:STORE\"\n[site_server]",
                "has no store of its own",
            ),
        ] {
            let found = told(&GATEWAY.replace(from, to));
            assert!(found.contains(wrong), "{wrong}: {found}");
            assert!(!found.contains("sitegate-join.abc"), "a secret is not shown: {found}");
        }
    }
}
