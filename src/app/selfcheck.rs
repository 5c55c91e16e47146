//! Sends a test request to the management points of this process through their own ports, as a
//! client would, and logs the result in the words that administrators search for. Runs only if
//! there is a folder for CMTrace logs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::assemble::SharedSites;
use super::{App, RunningState};
use crate::config::SiteSystem;
use crate::front::at_home;
use crate::route::Role;
use crate::tls::ClientConfigs;

/// The first check waits until the ports are open.
const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(60);
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Enough of a response to contain its status.
const HEAD_BYTES: usize = 256;

/// The periodic check.
struct SelfCheck {
    state: Arc<Mutex<RunningState>>,
    sites: SharedSites,
    configs: ClientConfigs,
}

/// One site system to check.
struct CheckTarget {
    name: String,
    host: String,
    address: SocketAddr,
    config: Option<Arc<ClientConfig>>,
}

impl App {
    /// Starts checking, if the configuration has a folder for CMTrace.
    pub(super) fn check_itself(&mut self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.config.log.cmtrace.is_none() {
            return;
        }
        drop(state);
        let (state, sites) = (self.state.clone(), self.applied.sites.shared());
        let check = SelfCheck { state, sites, configs: self.applied.authorities.to_backends() };
        self.tasks.spawn(check.run(self.stop.subscribe()));
    }
}

impl SelfCheck {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut due = tokio::time::interval_at(Instant::now() + FIRST, EVERY);
        loop {
            tokio::select! {
                _ = due.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            for asked in self.asked() {
                tell(&asked.name, tokio::time::timeout(ANSWER_TIME, asked.ask()).await);
            }
        }
    }

    fn asked(&self) -> Vec<CheckTarget> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = |system: &SiteSystem| {
            let address = at_home(*state.addresses.get(&system.listen)?);
            let served = sites.get(&system.name)?.load();
            // A load balancer's address must send a PROXY header, and this check does not.
            let balanced = system.balancers.iter().any(|net| net.contains(&address.ip()));
            let is_asked = system.roles.contains(&Role::ManagementPoint) && !balanced;
            is_asked.then(|| CheckTarget {
                name: system.name.clone(),
                host: system.hosts.first().cloned().unwrap_or_default(),
                address,
                config: served
                    .config
                    .is_some()
                    .then(|| self.configs.trusting(Some(served.anchors()))),
            })
        };
        state.config.site_systems.iter().filter_map(ask).collect()
    }
}

impl CheckTarget {
    async fn ask(&self) -> Result<http::StatusCode, String> {
        let config = self.config.clone().ok_or("no certificate is fit")?;
        let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let tcp = TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
        let tls = TlsConnector::from(config).connect(name, tcp).await;
        let mut tls = tls.map_err(|e| e.to_string())?;
        let request = format!(
            "GET /SMS_MP/.sms_aut?MPLIST HTTP/1.1\r\nHost: {}\r\nUser-Agent: sitegate-selfcheck\r\nConnection: close\r\n\r\n",
            self.host
        );
        tls.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
        let mut head = Vec::new();
        let limited = (&mut tls).take(HEAD_BYTES as u64).read_to_end(&mut head).await;
        status(&head).ok_or_else(|| match limited {
            Err(error) => error.to_string(),
            Ok(_) => "the response is not HTTP".to_owned(),
        })
    }
}

/// The status of a response, from its first bytes.
fn status(head: &[u8]) -> Option<http::StatusCode> {
    let code = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    http::StatusCode::from_bytes(code).ok()
}

type CheckOutcome = Result<Result<http::StatusCode, String>, tokio::time::error::Elapsed>;

fn tell(site_system: &str, outcome: CheckOutcome) {
    let reason = |status: http::StatusCode| status.canonical_reason().unwrap_or_default();
    match outcome {
        Ok(Ok(status)) if status.is_success() => tracing::info!(
            target: "sitegate::selfcheck", site_system,
            "Http test request succeeded, status code is {}, '{}'", status.as_u16(), reason(status)
        ),
        Ok(Ok(status)) => tracing::error!(
            target: "sitegate::selfcheck", site_system,
            "Http test request failed, status code is {}, '{}'", status.as_u16(), reason(status)
        ),
        Ok(Err(error)) => tracing::error!(
            target: "sitegate::selfcheck", site_system, "Http test request failed: {error}"
        ),
        Err(_) => tracing::error!(
            target: "sitegate::selfcheck", site_system, "Http test request failed: no response"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_beginning_of_an_answer_alone() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n").unwrap(), 200);
        for bad in [&b""[..], b"HTTP/1.1", b"HTTP/1.1 2", b"HTTP/1.1 abc", b"<html>HTTP/1.1 200"] {
            assert!(status(bad).is_none());
        }
    }
}
