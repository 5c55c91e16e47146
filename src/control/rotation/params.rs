//! The parameters of a site system's rotation.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::cert::Anchors;
use crate::control::cert_folder::Folder;
use crate::control::report::Observer;
use crate::control::served::Served;
use crate::control::source::SiteIssued;
use crate::tls::TlsOptions;

/// The parameters of a site system's rotation.
#[derive(Clone)]
pub struct RotationParams {
    /// The site system's configured name.
    pub name: String,
    /// The port that it is served on, for the log.
    pub port: u16,
    /// The hosts that its certificate must cover.
    pub hosts: Vec<ServerName<'static>>,
    /// Its TLS options.
    pub tls: TlsOptions,
    /// The folder of the operator's certificate, if configured.
    pub pki: Option<Folder>,
    /// The source of site-issued certificates; `None` for PKI only.
    pub site_issued: Option<SiteIssued>,
    /// The system's roots, for folders that bring none.
    pub system: Arc<Anchors>,
    /// The polling interval, for changes without an event.
    pub poll: Duration,
    /// Receives the reports.
    pub observer: Arc<dyn Observer>,
    /// The state of an earlier rotation of the same site system, so that a configuration reload
    /// loses nothing.
    pub previous: Option<Arc<Served>>,
}
