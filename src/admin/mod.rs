//! What is shown to those who run sitegate: metrics and health on one listener, status on another.
//!
//! Reads; changes nothing. Neither listener can be reached through a site system's port.

mod listener;
mod readiness;
mod server;
mod status;

pub use readiness::Readiness;
pub use server::{Shown, admin_router, metrics_router, serve};
pub use status::{
    CertificateStatus, ClientsStatus, ConfigStatus, IssuerStatus, RejectedStatus, SiteServerStatus,
    SiteSystemStatus, Status,
};
