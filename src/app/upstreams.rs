//! Builds upstreams from configured backends: addresses, TLS trust, and credentials.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::cert::Anchors;
use crate::config::{BackendAddress, BackendConfig, BackendTimes, SiteSystem};
use crate::control::Backends;
use crate::gateway::{BackendTls, LocalEndpoint, Upstream, Upstreams};
use crate::live::live;
use crate::local_service::{LocalService, LocalServices};
use crate::route::Destination;
use crate::secret::{BasicCredential, PasswordSource, read_bounded};
use crate::tls::ClientConfigs;

/// The upstreams of a site system.
pub(super) fn of(
    system: &SiteSystem,
    services: &LocalServices,
    backends: &Backends,
    tls: &ClientConfigs,
) -> Upstreams {
    let ready = |backend: &BackendConfig| match &backend.address {
        BackendAddress::SiteServer => own(&services.site_server, backend.times),
        BackendAddress::Host(host, port) => {
            Upstream { addresses: backends.addresses(host, *port), ..upstream(backend, tls) }
        }
        BackendAddress::Unix(path) => {
            let local = LocalEndpoint::Unix(path.as_path().into(), backends.socket(path));
            Upstream { local: Some(local), ..upstream(backend, tls) }
        }
    };
    let of_roles = system.role_backends.iter();
    let times = BackendTimes {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(30),
        idle: system.backend.times.idle.min(OWN_IDLE),
        websocket: Duration::ZERO,
    };
    Upstreams {
        backend: ready(&system.backend),
        roles: of_roles.map(|(role, backend)| (*role, ready(backend))).collect(),
        token_service: system.token_service.then(|| own(&services.token_service, times)),
        publication: publishes(system).then(|| own(&services.publication, times)),
    }
}

/// A backend without an address.
fn upstream(backend: &BackendConfig, tls: &ClientConfigs) -> Upstream {
    let to = |name: &ServerName<'static>| {
        let roots = backend.ca.as_ref().map(|path| trusted_or_nobody(path));
        BackendTls::new(tls.trusting(roots), name.clone())
    };
    Upstream {
        addresses: live(Vec::new()).1,
        local: None,
        tls: backend.tls_name.as_ref().map(to),
        credential: backend.auth.as_ref().map(|source| credential(&backend.url, source)),
        times: backend.times,
        in_flight: Arc::default(),
        requests_max: backend.requests.unwrap_or(usize::MAX),
    }
}

/// The same without any connection, for decisions about requests offline.
pub(super) fn of_nowhere(system: &SiteSystem) -> Upstreams {
    let nowhere = |backend: &BackendConfig| Upstream {
        addresses: live(Vec::new()).1,
        local: None,
        tls: None,
        credential: backend.auth.as_ref().map(|source| credential(&backend.url, source)),
        times: backend.times,
        in_flight: Arc::default(),
        requests_max: backend.requests.unwrap_or(usize::MAX),
    };
    let of_roles = system.role_backends.iter();
    Upstreams {
        backend: nowhere(&system.backend),
        roles: of_roles.map(|(role, backend)| (*role, nowhere(backend))).collect(),
        token_service: system.token_service.then(|| nowhere(&system.backend)),
        publication: publishes(system).then(|| nowhere(&system.backend)),
    }
}

fn publishes(system: &SiteSystem) -> bool {
    system.routes.iter().any(|route| route.destination == Destination::Publication)
}

/// How long an idle connection to a service of this process is kept at most.
const OWN_IDLE: Duration = Duration::from_secs(55);

/// A service of this process.
fn own(service: &LocalService, times: BackendTimes) -> Upstream {
    Upstream {
        addresses: live(Vec::new()).1,
        local: Some(LocalEndpoint::Service(service.clone())),
        tls: None,
        credential: None,
        times,
        in_flight: Arc::default(),
        requests_max: usize::MAX,
    }
}

/// The credential file is read when the configuration is.
fn credential(url: &str, source: &PasswordSource) -> BasicCredential {
    match BasicCredential::read(source) {
        Ok((credential, _)) => credential,
        Err(error) => {
            tracing::error!(backend = url, %error, "the account of backend_auth cannot be used");
            BasicCredential::unreadable()
        }
    }
}

const CA_BYTES_MAX: u64 = 1024 * 1024;

/// The CAs that the operator named. If none is usable, nothing is trusted: an operator who
/// restricts the CAs does not want the system's either.
fn trusted_or_nobody(path: &Path) -> Anchors {
    backend_roots(path).unwrap_or_else(|why| {
        tracing::error!(path = %path.display(), why, "backend_ca cannot be used");
        Anchors::default()
    })
}

/// The CAs in a file, or why there are none.
pub(super) fn backend_roots(path: &Path) -> Result<Anchors, String> {
    let (pem, _) = read_bounded(path, CA_BYTES_MAX).map_err(|error| error.to_string())?;
    let found = Anchors::from_pem(&pem);
    let found = found.map_err(|fault| fault.detail.trim_start_matches("ca: ").to_owned())?;
    if found.is_empty() { Err("it holds no certificate authority".to_owned()) } else { Ok(found) }
}
