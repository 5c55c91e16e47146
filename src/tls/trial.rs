//! Trial handshake: before a configuration is published, a client connects to it, in memory.
//!
//! No sockets; the time is an argument.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, NamedGroup, ServerConfig, ServerConnection,
    SideData, SupportedProtocolVersion,
};
use rustls_pki_types::{ServerName, UnixTime};

use super::backend_verifier::BackendVerifier;
use crate::cert::{Anchors, CredentialFault};
use crate::unfit::Unfit;

/// The client of the trial: its trust, its server names, and its cryptography.
#[derive(Clone, Debug)]
pub struct TrialClient<'a> {
    /// The roots it trusts.
    pub anchors: &'a Anchors,
    /// The server names, tried one after the other.
    pub hosts: &'a [ServerName<'static>],
    /// Its cryptography.
    pub provider: &'a Arc<CryptoProvider>,
}

/// Performs a handshake with the configuration for every host over TLS 1.3, and for the first one
/// over TLS 1.2 as well; the versions differ in the use of the key, not in the verification of
/// names.
///
/// # Errors
/// [`Unfit::HandshakeFailed`] with host, version and the failing side's error.
pub fn trial(
    config: &Arc<ServerConfig>,
    client: &TrialClient<'_>,
    now: Timestamp,
) -> Result<(), CredentialFault> {
    let modern = client_config(client, &TLS13, now)?;
    for host in client.hosts {
        shake("TLS 1.3", config, &modern, host)?;
    }
    match client.hosts.first() {
        Some(host) => shake("TLS 1.2", config, &client_config(client, &TLS12, now)?, host),
        None => Ok(()),
    }
}

fn client_config(
    client: &TrialClient<'_>,
    version: &'static SupportedProtocolVersion,
    now: Timestamp,
) -> Result<Arc<ClientConfig>, CredentialFault> {
    let time = Arc::new(StoppedAt(now));
    let provider = Arc::new(with_one_exchange(client.provider));
    let config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[version])
        .map_err(|e| CredentialFault::new(Unfit::HandshakeFailed, e.to_string()))?;
    let config = if client.anchors.process_more() {
        let anchors = client.anchors.clone();
        let verifier = BackendVerifier { anchors, provider: client.provider.clone() };
        config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        config.with_root_certificates(client.anchors.root_store())
    };
    let mut config = config.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The same cryptography with only the cheapest key exchange: the trial tests the certificate, and
/// a post-quantum key share would be wasted work.
fn with_one_exchange(provider: &CryptoProvider) -> CryptoProvider {
    let mut one = provider.clone();
    if one.kx_groups.iter().any(|group| group.name() == NamedGroup::X25519) {
        one.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    }
    one
}

#[derive(Debug)]
struct StoppedAt(Timestamp);

impl TimeProvider for StoppedAt {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn shake(
    version: &str,
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    host: &ServerName<'static>,
) -> Result<(), CredentialFault> {
    let failed = |side: &str, why: String| {
        let at = format!("{version} to {}: {side}: {why}", host.to_str());
        CredentialFault::new(Unfit::HandshakeFailed, at)
    };
    let mut client = ClientConnection::new(client.clone(), host.clone())
        .map_err(|e| failed("client", e.to_string()))?;
    let mut server =
        ServerConnection::new(server.clone()).map_err(|e| failed("server", e.to_string()))?;
    while client.is_handshaking() || server.is_handshaking() {
        let sent = carry(&mut client, &mut server).map_err(|e| failed("server", e))?;
        let answered = carry(&mut server, &mut client).map_err(|e| failed("client", e))?;
        if sent + answered == 0 {
            return Err(failed("both", "no detail".to_owned()));
        }
    }
    Ok(())
}

/// Transfers all pending bytes of one side to the other. Returns their number.
fn carry<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<usize, String> {
    let mut carried = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut carried).map_err(|e| e.to_string())?;
    }
    let mut rest = carried.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).map_err(|e| e.to_string())?;
        to.process_new_packets().map_err(|e| e.to_string())?;
    }
    Ok(carried.len())
}
