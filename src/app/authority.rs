//! The site's own authority as the configuration has it, and for which site systems it issues.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::cert::issuer::{Algorithm, Scope};
use crate::config::{AuthorityKey, Config, Site, SiteKind};
use crate::route::Role;
use crate::site::{Authority, AuthorityParams, RootsError};

/// The site's authority, as the configuration has it; none where only PKI certificates are used.
pub(crate) fn open_authority(
    config: &Config,
    provider: Arc<CryptoProvider>,
) -> Option<Arc<Authority>> {
    if !config.site.issues_certificates || config.site_server.is_some() {
        return None;
    }
    // Without domains the site may issue for its own hosts, and nothing else.
    let permitted: Vec<String> = match config.site.domains.is_empty() {
        false => {
            let literal = |host: &&String| host.parse::<std::net::IpAddr>().is_ok();
            let hosts = config.site_systems.iter().flat_map(|s| &s.hosts);
            let addresses = hosts.filter(literal).cloned();
            config.site.domains.iter().cloned().chain(addresses).collect()
        }
        true => config.site_systems.iter().flat_map(|s| s.hosts.iter().cloned()).collect(),
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
            AuthorityKey::P256 => Algorithm::P256,
            AuthorityKey::Rsa2048 => Algorithm::Rsa2048,
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

/// Whether the state directory has the roots that the configuration names, if it names any.
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

/// What the console's option means: on a central administration site, it is for the SMS Provider.
pub(super) fn allowed(site: &Site, roles: &[Role]) -> Allowed {
    // A site server is no site system of the console's: without a certificate there is no site.
    let provider = |role: &Role| matches!(role, Role::AdministrationService | Role::SiteServer);
    match site.kind {
        _ if !site.issues_certificates => Allowed::No,
        SiteKind::CentralAdministration if !roles.iter().all(provider) || roles.is_empty() => {
            Allowed::Never(
                "a central administration site issues for the administration service alone, and \
                 this site system has other roles: give it a PKI certificate",
            )
        }
        SiteKind::CentralAdministration | SiteKind::Primary => Allowed::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::second;

    fn site(keys: &str) -> Site {
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
    fn a_central_administration_site_issues_for_the_administration_service_alone() {
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
