//! The TLS client configuration for backends: trusts the system's roots, or the operator's instead,
//! and sends no client certificate.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::backend_verifier::BackendVerifier;
use crate::cert::Anchors;

/// Makes client configurations with one provider.
#[derive(Clone, Debug)]
pub struct ClientConfigs {
    begun: ConfigBuilder<ClientConfig, WantsVerifier>,
    provider: Arc<CryptoProvider>,
    system: Arc<RootCertStore>,
}

impl ClientConfigs {
    /// Uses these as the system's roots.
    ///
    /// # Errors
    /// If the provider does not support TLS 1.2 and 1.3.
    pub fn new(
        provider: Arc<CryptoProvider>,
        system: RootCertStore,
    ) -> Result<Self, rustls::Error> {
        let begun = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        Ok(ClientConfigs { begun, provider, system: Arc::new(system) })
    }

    /// A configuration that trusts these roots, or the system's if `None`. An empty list trusts no
    /// server.
    pub fn trusting(&self, roots: Option<Anchors>) -> Arc<ClientConfig> {
        let begun = self.begun.clone();
        let trusting: ConfigBuilder<ClientConfig, WantsClientCert> = match roots {
            None => begun.with_root_certificates(self.system.clone()),
            Some(anchors) => {
                let verifier = BackendVerifier { anchors, provider: self.provider.clone() };
                begun.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let mut config = trusting.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}
