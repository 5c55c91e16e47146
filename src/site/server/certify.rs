//! Role certificates for gateways on other hosts: the key is theirs, the names are what their join
//! token said.

use rustls_pki_types::ServerName;

use super::refused::{Refused, SiteDenial};
use super::{CertificateAnswer, CertificateRequest, SiteServer};
use crate::cert::request::Request;
use crate::site::store::{Gateway, RoleCertificate};

const HOSTS_MAX: usize = 100;

pub(super) async fn certify(
    server: &SiteServer,
    gateway: &Gateway,
    asked: &CertificateRequest,
) -> Result<CertificateAnswer, Refused> {
    let authority = server.authority.as_ref().ok_or(SiteDenial::CertificateIssue)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let named = (1..=64).contains(&asked.site_system.len())
        && asked.site_system.bytes().all(plain)
        && (1..=HOSTS_MAX).contains(&asked.hosts.len());
    if !named {
        return Err(Refused::of(SiteDenial::Malformed, "no site system, or no hosts"));
    }
    let mut hosts = Vec::new();
    for host in &asked.hosts {
        let allowed = gateway.hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
        match ServerName::try_from(host.clone()) {
            Ok(name) if allowed => hosts.push(name),
            _ => return Err(SiteDenial::CertificateHosts.into()),
        }
    }
    let request = Request::parse(&asked.request)
        .map_err(|fault| Refused::of(SiteDenial::CertificateRequest, fault.to_string()))?;
    let now = server.clock.now();
    let (chain, facts) = authority
        .certify(&request, &asked.site_system, &hosts, now)
        .map_err(|fault| Refused::of(SiteDenial::CertificateIssue, fault.to_string()))?;
    let roots = authority
        .root_pem()
        .map_err(|fault| Refused::of(SiteDenial::CertificateIssue, fault.to_string()))?;
    let issued = RoleCertificate {
        thumbprint: facts.sha256,
        certificate: leaf_pem(&chain).to_owned(),
        gateway: gateway.name.clone(),
        site_system: asked.site_system.clone(),
        hosts: asked.hosts.clone(),
        issued: now,
        expires: facts.not_after,
        blocked: None,
    };
    // Before it is handed out: a certificate that the site does not know of cannot be blocked.
    let actor = format!("gateway {}", gateway.name);
    if !server.store.role_certificate(&issued, &actor).await? {
        return Err(SiteDenial::GatewayUnknown.into());
    }
    Ok(CertificateAnswer { chain, roots })
}

/// The first certificate of a chain.
fn leaf_pem(chain: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    chain.find(END).and_then(|at| chain.get(..at + END.len())).unwrap_or(chain)
}
