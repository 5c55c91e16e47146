//! The site's own CA as configured, and the site systems it issues for.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::cert::issuer::{CertAlgorithm, Scope};
use crate::config::{AuthorityKey, Config, SiteConfig, SiteKind};
use crate::route::Role;
use crate::site::{Authority, AuthorityParams, RootsError};

/// The site's CA as configured; none if only PKI certificates are used.
pub fn open_authority(config: &Config, provider: Arc<CryptoProvider>) -> Option<Arc<Authority>> {
    if !config.site.issues_certificates || config.site_server.is_some() {
        return None;
    }
    // Without configured domains the site may issue only for its own hosts.
    let permitted: Vec<String> = if config.site.domains.is_empty() {
        config.site_systems.iter().flat_map(|s| s.hosts.iter().cloned()).collect()
    } else {
        let literal = |host: &&String| host.parse::<std::net::IpAddr>().is_ok();
        let hosts = config.site_systems.iter().flat_map(|s| &s.hosts);
        let addresses = hosts.filter(literal).cloned();
        config.site.domains.iter().cloned().chain(addresses).collect()
    };
    let scope = match Scope::new(&permitted) {
        Ok(scope) => scope,
        Err(fault) => {
            tracing::error!(%fault, "the site cannot issue certificates for its domains");
            return None;
        }
    };
    let params = AuthorityParams {
        site_code: config.site.code.clone(),
        scope,
        algorithm: match config.site.authority_key {
            AuthorityKey::P256 => CertAlgorithm::P256,
            AuthorityKey::Rsa2048 => CertAlgorithm::Rsa2048,
        },
        roots: config.site.roots.clone(),
        crl_url: config.site.crl_url.clone(),
        whole_chains: config
            .site_systems
            .iter()
            .filter(|system| system.is_site_server())
            .map(|system| system.name.clone())
            .collect(),
    };
    Some(Arc::new(Authority::new(&config.site.state, params, provider)))
}

/// Checks that the state directory has the roots that the configuration names, if it names any.
///
/// # Errors
/// [`RootsError`].
pub(super) fn look_for_expected_roots(
    config: &Config,
    provider: &Arc<CryptoProvider>,
) -> Result<(), RootsError> {
    let authority = open_authority(config, provider.clone());
    authority.map_or(Ok(()), |authority| authority.look_for_expected_roots())
}

/// Whether the site issues for a site system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Yes,
    No,
    Never(&'static str),
}

/// The meaning of the console's option: on a central administration site, it is for the SMS
/// Provider.
pub(super) fn allowed(site: &SiteConfig, roles: &[Role]) -> Allowed {
    // In the console a site server is not a site system, but without a certificate there is no
    // site.
    let provider = |role: &Role| matches!(role, Role::AdministrationService | Role::SiteServer);
    match site.kind {
        _ if !site.issues_certificates => Allowed::No,
        SiteKind::CentralAdministration if !roles.iter().all(provider) || roles.is_empty() => {
            Allowed::Never(
                "a central administration site issues certificates only for the administration \
                 service, and this site system has other roles: give it a PKI certificate",
            )
        }
        SiteKind::CentralAdministration | SiteKind::Primary => Allowed::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::second;

    fn site(keys: &str) -> SiteConfig {
        let text = format!(
            "[site]\ncode = \"PS1\"\n{keys}\n[[site_system]]\nname = \"a\"\n\
             roles = [\"administration-service\"]\nlisten = \"127.0.0.1:1\"\n\
             hosts = [\"a.contoso.com\"]\nbackend = \"http://127.0.0.1:80\"\n"
        );
        let now = second(1_800_000_000);
        let loaded = crate::config::parse(&text, "x.toml", std::path::Path::new("/"), now);
        loaded.unwrap().config.site
    }

    #[test]
    fn a_central_administration_site_issues_for_its_own_roles_only() {
        let central = site("kind = \"central-administration\"");
        let (provider, point) = (Role::AdministrationService, Role::ManagementPoint);
        assert_eq!(allowed(&central, &[provider]), Allowed::Yes);
        assert_eq!(allowed(&central, &[Role::SiteServer]), Allowed::Yes);
        for roles in [&[point][..], &[provider, point], &[]] {
            assert!(matches!(allowed(&central, roles), Allowed::Never(_)), "{roles:?}");
            assert_eq!(allowed(&site(""), roles), Allowed::Yes);
        }
        let closed = site("kind = \"central-administration\"\ncertificates = \"pki-only\"");
        assert_eq!(allowed(&closed, &[provider]), Allowed::No);
    }
}
