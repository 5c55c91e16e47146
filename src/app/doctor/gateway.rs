//! Tests the listen addresses as a client: which process holds them, and which certificate is
//! served there.

use std::net::SocketAddr;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ask::{AskPlace, AskTarget, ask};
use super::files::ServedByName;
use super::finding::{Ailment, Finding};
use super::{Instruments, Probes, within};
use crate::admin::{BackendStatus, SiteServerStatus, Status};
use crate::cert::Facts;
use crate::config::{Config, SiteSystem};
use crate::control::site_server::CLOCKS_DIFFER_S_MAX;
use crate::front::at_home;
use crate::os;

/// The timeout of the status request: less than that of a probe, so that the rest is still tested.
const STATUS: Duration = Duration::from_secs(2);

pub(super) fn probe(
    config: &Config,
    served: ServedByName,
    with: &Instruments,
    probes: &mut Probes,
) {
    let admin = config.admin;
    for system in &config.site_systems {
        let late = Finding::new(
            Ailment::HandshakeFailed,
            &*system.name,
            format!("{}: no response in time", system.listen),
        );
        let expected = served.get(&system.name).map(|c| c.thumbprint_sha256.clone());
        let (system, with) = (system.clone(), with.clone());
        probes.spawn(within(late, look(system, admin, expected, with)));
    }
}

/// The state of backends and site server as the running gateway reports it.
pub(super) fn probe_status(config: &Config, probes: &mut Probes) {
    let (following, admin) = (config.site_server.clone(), config.admin);
    probes.spawn(async move {
        let status = tokio::time::timeout(STATUS, status(admin)).await.ok().flatten();
        let Some(status) = status else { return Vec::new() };
        let mut found = of_backends(&status.backends);
        if let (Some(following), Some(server)) = (following, status.site_server) {
            found.extend(of_site_server(&following.name, server));
        }
        found
    });
}

fn of_backends(backends: &[BackendStatus]) -> Vec<Finding> {
    let mut found = Vec::new();
    for backend in backends {
        for at in backend.addresses.iter().filter(|at| at.state == "down") {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            let since = at.since.map(|since| format!("since {since}, ")).unwrap_or_default();
            let (reason, detail) = (part(&at.reason), part(&at.detail));
            let evidence = format!(
                "{}: {since}{} in a row: {detail} ({reason})",
                at.address, at.failures_in_a_row
            );
            found.push(Finding::new(Ailment::BackendFails, &*backend.name, evidence));
        }
    }
    found
}

fn of_site_server(name: &str, server: SiteServerStatus) -> Vec<Finding> {
    let differ = server.clock_ahead_s.filter(|ahead| ahead.abs() > CLOCKS_DIFFER_S_MAX);
    let clock = differ.map(|ahead| {
        let evidence = format!("the site server's is {ahead} seconds ahead of this machine's");
        Finding::new(Ailment::ClockSiteServer, name, evidence)
    });
    let away = server.trouble.map(|why| Finding::new(Ailment::SiteServerAway, name, why));
    clock.into_iter().chain(away).collect()
}

async fn look(
    system: SiteSystem,
    admin: SocketAddr,
    expected: Option<String>,
    with: Instruments,
) -> Vec<Finding> {
    let found = |ailment, evidence: String| vec![Finding::new(ailment, &*system.name, evidence)];
    let address = at_home(system.listen);
    let holders = os::holders(system.listen);
    let (ours, others): (Vec<_>, Vec<_>) = holders.iter().partition(|h| h.is_sitegate());
    if let (true, Some(other)) = (ours.is_empty(), others.first()) {
        let evidence =
            format!("{} is held by {} (process {})", system.listen, other.name, other.pid);
        return found(Ailment::PortTaken, evidence);
    }
    if let Some(plain) = &system.plain_http {
        let holders = os::holders(plain.listen);
        if let Some(other) = holders.iter().find(|holder| !holder.is_sitegate()) {
            let evidence =
                format!("{} is held by {} (process {})", plain.listen, other.name, other.pid);
            return found(Ailment::PortTaken, evidence);
        }
    }
    let status = tokio::time::timeout(STATUS, status(admin)).await.ok().flatten();
    let Ok(stream) = TcpStream::connect(address).await else {
        return found(Ailment::NotRunning, format!("nothing listens on {}", system.listen));
    };
    if ours.is_empty() && status.is_none() {
        let evidence =
            format!("{} is held by a process that this user may not inspect", system.listen);
        return found(Ailment::PortTaken, evidence);
    }
    // Only the load balancer may connect, so the probe stops here.
    if !system.balancers.is_empty() {
        return Vec::new();
    }
    let name = system.hosts.first().and_then(|host| ServerName::try_from(host.clone()).ok());
    let (Some(name), Ok(any)) = (name, crate::tls::unjudged(with.provider.clone())) else {
        return Vec::new();
    };
    let session = match TlsConnector::from(any).connect(name, stream).await {
        Ok(session) => session,
        Err(error) => return found(Ailment::HandshakeFailed, format!("{address}: {error}")),
    };
    let leaf = session.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let Some(Ok(facts)) = leaf.map(|leaf| Facts::of(leaf)) else { return Vec::new() };
    let told = status.as_ref().and_then(|status| {
        let of = status.site_systems.iter().find(|of| of.name == system.name)?;
        Some(of.certificate.as_ref()?.thumbprint_sha256.clone())
    });
    match expected.or(told).filter(|expected| *expected != facts.sha256) {
        None => Vec::new(),
        Some(expected) => {
            let (sha256, subject) = (&facts.sha256, &facts.subject);
            let evidence = format!("served: {subject} {sha256}; expected: {expected}");
            found(Ailment::OtherCertificate, evidence)
        }
    }
}

async fn status(admin: SocketAddr) -> Option<Status> {
    let admin = at_home(admin);
    let to = AskTarget {
        place: AskPlace::Tcp(admin.ip().to_string(), admin.port()),
        tls: None,
        host: "localhost".to_owned(),
        authorization: None,
    };
    let answer = ask(&to, "GET", "/api/v1/status", &[]).await.ok()?;
    serde_json::from_str(&answer.body).ok()
}
