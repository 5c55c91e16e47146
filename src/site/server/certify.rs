//! Issues role certificates to gateways on other hosts: the gateway has the key, and its join token
//! limits the names.

use rustls_pki_types::ServerName;

use super::refused::{ServerRefusal, SiteDenial};
use super::{CertificateAnswer, CertificateRequest, SiteServer};
use crate::cert::request::SigningRequest;
use crate::site::store::{GatewayRecord, RoleCertificate};

const HOSTS_MAX: usize = 100;

pub(super) async fn certify(
    server: &SiteServer,
    gateway: &GatewayRecord,
    asked: &CertificateRequest,
) -> Result<CertificateAnswer, ServerRefusal> {
    let authority = server.authority.as_ref().ok_or(SiteDenial::CertificateIssue)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let named = (1..=64).contains(&asked.site_system.len())
        && asked.site_system.bytes().all(plain)
        && (1..=HOSTS_MAX).contains(&asked.hosts.len());
    if !named {
        return Err(ServerRefusal::of(SiteDenial::Malformed, "no site system, or no hosts"));
    }
    let mut hosts = Vec::new();
    for host in &asked.hosts {
        let allowed = gateway.hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
        match ServerName::try_from(host.clone()) {
            Ok(name) if allowed => hosts.push(name),
            _ => return Err(SiteDenial::CertificateHosts.into()),
        }
    }
    let request = SigningRequest::parse(&asked.request)
        .map_err(|fault| ServerRefusal::of(SiteDenial::CertificateRequest, fault.to_string()))?;
    let now = server.clock.now();
    let (chain, facts) = authority
        .certify(&request, &asked.site_system, &hosts, now)
        .map_err(|fault| ServerRefusal::of(SiteDenial::CertificateIssue, fault.to_string()))?;
    let roots = authority
        .root_pem()
        .map_err(|fault| ServerRefusal::of(SiteDenial::CertificateIssue, fault.to_string()))?;
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
    // Recorded before it is sent: a certificate without a record could not be blocked.
    let actor = format!("gateway {}", gateway.name);
    if !server.store.role_certificate(&issued, &actor).await? {
        return Err(SiteDenial::GatewayUnknown.into());
    }
    Ok(CertificateAnswer { chain, roots })
}

/// The first certificate of a chain, PEM.
fn leaf_pem(chain: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    chain.find(END).and_then(|at| chain.get(..at + END.len())).unwrap_or(chain)
}
