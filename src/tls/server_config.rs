//! The TLS server configuration of one credential: versions, ALPN protocols, tickets.
//!
//! A configuration is swapped as a whole. Tickets and sessions belong to it and end with it, so
//! that no resumption brings back a certificate that is no longer served.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoClientAuth, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

use crate::cert::{Credential, CredentialFault, Staple};
use crate::unfit::Unfit;

use super::client_verifier::AnyClient;
use super::session_size::{SmallSessions, SmallTickets};

/// The TLS options of a site system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Offer HTTP/2 before HTTP/1.1 (RFC 7301, RFC 9113 §3.2).
    pub http2: bool,
    /// Request a client certificate. It is optional, and not validated here.
    pub client_certificates: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        TlsOptions { http2: true, client_certificates: false }
    }
}

/// For TLS 1.2 clients without tickets, of which there are few.
const SESSIONS_MAX: usize = 4096;

/// Makes the configuration: TLS 1.3 and 1.2, key exchange in the provider's order, tickets under
/// its own keys, no early data (it would permit replayed requests).
///
/// # Errors
/// Why the credential's key is unusable, or [`Unfit::HandshakeFailed`] if the provider does not
/// support TLS 1.2 and 1.3.
pub fn server_config(
    credential: &Credential,
    staple: Option<&Staple>,
    options: &TlsOptions,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, CredentialFault> {
    let failed = |e: rustls::Error| CredentialFault::new(Unfit::HandshakeFailed, e.to_string());
    let mut key = credential.certified_key()?;
    key.ocsp = staple.map(|staple| staple.der.to_vec());
    let clients: Arc<dyn ClientCertVerifier> = if options.client_certificates {
        Arc::new(AnyClient::new(&provider))
    } else {
        Arc::new(NoClientAuth)
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

/// A configuration that completes no handshake: for unknown server names, and while no certificate
/// is fit. The client receives an alert.
///
/// # Errors
/// If the provider does not support TLS 1.2 and 1.3.
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

/// The ALPN protocols, the preferred one first. HTTP/1.0 is served like HTTP/1.1, so a client that
/// offers only that is accepted.
fn protocols(http2: bool) -> Vec<Vec<u8>> {
    let all: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
    all.into_iter().skip(usize::from(!http2)).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests;
