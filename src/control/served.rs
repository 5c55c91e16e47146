//! What a site system serves now, as handshakes, status and readiness read it.
//!
//! Written by the rotation alone.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::ServerConfig;

use crate::cert::{Anchors, Selection, Source, Staple, select};

use super::report::Warning;
use super::supply::Holding;

/// What is served, and how that came about. Handshakes read `config`, status the rest.
#[derive(Clone, Debug)]
pub struct Served {
    /// The configuration for handshakes; `None` refuses them.
    pub config: Option<Arc<ServerConfig>>,
    /// The choice: what, why, what was passed over, and when it may change.
    pub selection: Selection,
    /// Since when this certificate is served, or none.
    pub since: Timestamp,
    /// How often the certificate has been replaced.
    pub swaps: u64,
    /// What hinders nothing and should be mended all the same.
    pub warnings: Vec<(Source, Warning)>,
    /// The OCSP response that is stapled.
    pub staple: Option<Staple>,
    pub(super) anchors: Arc<Anchors>,
}

impl Served {
    /// The roots by which what is served was judged, as a client of this machine needs them: one
    /// that trusts them is content.
    pub fn anchors(&self) -> Anchors {
        let chosen = self.selection.chosen.as_ref();
        chosen.map_or_else(Anchors::default, |chosen| self.anchors.for_trial(chosen))
    }

    pub(super) fn holding(&self) -> Option<Holding> {
        let credential = self.selection.chosen.clone()?;
        let staple = self.staple.clone().map(Ok);
        Some(Holding { credential, anchors: self.anchors.clone(), staple })
    }

    /// What is live before the first look: what an earlier rotation served, if there was one, but
    /// without its configuration, because options of TLS may be what was reloaded.
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
