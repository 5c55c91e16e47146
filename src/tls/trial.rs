//! The last look before a configuration is published: a client shakes hands with it, in memory.
//!
//! No sockets; the time is the one it is told.

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
use crate::cert::{Anchors, Fault};
use crate::unfit::Unfit;

/// The client that tries: whom it trusts, where it connects to, and what cryptography it knows.
#[derive(Clone, Debug)]
pub struct Client<'a> {
    /// The roots it trusts.
    pub anchors: &'a Anchors,
    /// The hosts it connects to, one after the other.
    pub hosts: &'a [ServerName<'static>],
    /// Its cryptography.
    pub provider: &'a Arc<CryptoProvider>,
}

/// Shake hands with the configuration for every host by TLS 1.3, and for the first by TLS 1.2 as
/// well; the versions differ in how the key is used, not in how names are judged.
///
/// # Errors
/// [`Unfit::HandshakeFailed`] with host, version and the side's own words.
pub fn trial(config: &Arc<ServerConfig>, client: &Client<'_>, now: Timestamp) -> Result<(), Fault> {
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
    client: &Client<'_>,
    version: &'static SupportedProtocolVersion,
    now: Timestamp,
) -> Result<Arc<ClientConfig>, Fault> {
    let time = Arc::new(StoppedAt(now));
    let provider = Arc::new(with_one_exchange(client.provider));
    let config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[version])
        .map_err(|e| Fault::new(Unfit::HandshakeFailed, e.to_string()))?;
    let mut config = match client.anchors.process_more() {
        false => config.with_root_certificates(client.anchors.root_store()),
        true => {
            let anchors = client.anchors.clone();
            let verifier = BackendVerifier { anchors, provider: client.provider.clone() };
            config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    }
    .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The same cryptography with the cheapest key exchange alone: what is tried is the certificate, and
/// a client that offers a post-quantum key computes it for nothing.
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
) -> Result<(), Fault> {
    let failed = |side: &str, why: String| {
        let at = format!("{version} to {}: {side}: {why}", host.to_str());
        Fault::new(Unfit::HandshakeFailed, at)
    };
    let mut client = ClientConnection::new(client.clone(), host.clone())
        .map_err(|e| failed("client", e.to_string()))?;
    let mut server =
        ServerConnection::new(server.clone()).map_err(|e| failed("server", e.to_string()))?;
    while client.is_handshaking() || server.is_handshaking() {
        let sent = carry(&mut client, &mut server).map_err(|e| failed("server", e))?;
        let answered = carry(&mut server, &mut client).map_err(|e| failed("client", e))?;
        if sent + answered == 0 {
            return Err(failed("both", "nothing more to say".to_owned()));
        }
    }
    Ok(())
}

/// Carry all that one side has to say to the other; how many bytes it was.
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
