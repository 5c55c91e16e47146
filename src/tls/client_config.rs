//! The configuration of TLS towards a backend: whom it trusts. The system's roots, or the operator's
//! instead of them, and no client certificate.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::backend_verifier::BackendVerifier;
use crate::cert::Anchors;

/// Makes configurations with one provider.
#[derive(Clone, Debug)]
pub struct ClientConfigs {
    begun: ConfigBuilder<ClientConfig, WantsVerifier>,
    provider: Arc<CryptoProvider>,
    system: Arc<RootCertStore>,
}

impl ClientConfigs {
    /// With these as the system's roots.
    ///
    /// # Errors
    /// If the provider cannot do TLS at all.
    pub fn new(
        provider: Arc<CryptoProvider>,
        system: RootCertStore,
    ) -> Result<Self, rustls::Error> {
        let begun = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        Ok(ClientConfigs { begun, provider, system: Arc::new(system) })
    }

    /// One that trusts these roots, or the system's without any list of them. An empty list trusts
    /// nobody.
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
