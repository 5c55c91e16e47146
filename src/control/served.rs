//! The served state of a site system, as handshakes, status and readiness read it.
//!
//! Only the rotation writes it.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::ServerConfig;

use crate::cert::{Anchors, Selection, Source, Staple, select};

use super::judged_credential::Holding;
use super::report::Warning;

/// The served certificate and how it was selected. Handshakes read `config`, status the rest.
#[derive(Clone, Debug)]
pub struct Served {
    /// The configuration for handshakes; `None` refuses them.
    pub config: Option<Arc<ServerConfig>>,
    /// The selection: the credential, the reason, the credentials passed over, and when it may
    /// change.
    pub selection: Selection,
    /// Since when this certificate, or none, is served.
    pub since: Timestamp,
    /// How often the certificate has been replaced.
    pub swaps: u64,
    /// Faults that should be fixed but do not stop the certificate from being served.
    pub warnings: Vec<(Source, Warning)>,
    /// The stapled OCSP response.
    pub staple: Option<Staple>,
    pub(super) anchors: Arc<Anchors>,
}

impl Served {
    /// The roots that the served certificate was checked against, as a client on this machine needs
    /// them: a client that trusts them accepts the certificate.
    pub fn anchors(&self) -> Anchors {
        let chosen = self.selection.chosen.as_ref();
        chosen.map_or_else(Anchors::default, |chosen| self.anchors.for_trial(chosen))
    }

    pub(super) fn holding(&self) -> Option<Holding> {
        let credential = self.selection.chosen.clone()?;
        let staple = self.staple.clone().map(Ok);
        Some(Holding { credential, anchors: self.anchors.clone(), staple })
    }

    /// The state before the first evaluation: that of an earlier rotation if there was one, but
    /// without its configuration, because the reload may have changed the TLS options.
    pub(super) fn before(previous: Option<&Served>, now: Timestamp) -> Self {
        let nothing = || Served {
            config: None,
            selection: select(&[], None, now),
            since: now,
            swaps: 0,
            warnings: Vec::new(),
            staple: None,
            anchors: Arc::default(),
        };
        previous.map_or_else(nothing, |previous| Served { config: None, ..previous.clone() })
    }
}
