//! The configuration of TLS for one credential: versions, protocols, tickets.
//!
//! A configuration is swapped whole. Tickets and sessions belong to it and end with it, so that
//! none brings back a certificate that is no longer served.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoClientAuth, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

use crate::cert::{Credential, Fault, Staple};
use crate::unfit::Unfit;

use super::client_verifier::AnyClient;
use super::remembering::{SmallSessions, SmallTickets};

/// What a site system may choose about its TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Offer HTTP/2 before HTTP/1.1 (RFC 7301, RFC 9113 §3.2).
    pub http2: bool,
    /// Ask clients for a certificate. None is demanded, and none is judged here.
    pub client_certificates: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        TlsOptions { http2: true, client_certificates: false }
    }
}

/// TLS 1.2 clients without tickets, of which there are few.
const SESSIONS_MAX: usize = 4096;

/// Make the configuration: TLS 1.3 and 1.2, key exchange in the provider's order, tickets under
/// keys of its own, no early data (a replayed request must not be possible).
///
/// # Errors
/// What makes the credential's key unusable, or [`Unfit::HandshakeFailed`] where the provider
/// cannot do TLS at all.
pub fn server_config(
    credential: &Credential,
    staple: Option<&Staple>,
    options: &TlsOptions,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, Fault> {
    let failed = |e: rustls::Error| Fault::new(Unfit::HandshakeFailed, e.to_string());
    let mut key = credential.certified_key()?;
    key.ocsp = staple.map(|staple| staple.der.to_vec());
    let clients: Arc<dyn ClientCertVerifier> = match options.client_certificates {
        true => Arc::new(AnyClient::new(&provider)),
        false => Arc::new(NoClientAuth),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(failed)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = protocols(options.http2);
    config.ticketer = Arc::new(SmallTickets(Ticketer::new().map_err(failed)?));
    config.session_storage = Arc::new(SmallSessions(ServerSessionMemoryCache::new(SESSIONS_MAX)));
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// A configuration that completes no handshake: for names that nobody here has, and while no
/// certificate is fit. The client is told by an alert rather than by silence.
///
/// # Errors
/// If the provider cannot do TLS at all.
pub fn refusing(provider: Arc<CryptoProvider>) -> Result<Arc<ServerConfig>, rustls::Error> {
    #[derive(Debug)]
    struct Nobody;
    impl ResolvesServerCert for Nobody {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nobody));
    config.alpn_protocols = protocols(true);
    Ok(Arc::new(config))
}

/// The protocols that a client may offer, the best first. HTTP/1.0 is served like HTTP/1.1, so a
/// client that offers nothing else is not sent away.
fn protocols(http2: bool) -> Vec<Vec<u8>> {
    let all: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
    all.into_iter().skip(usize::from(!http2)).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests;
