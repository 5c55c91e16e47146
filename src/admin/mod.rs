//! The operator interfaces: metrics and health on one listener, status and the admin page on the
//! other.
//!
//! Read-only. Neither listener can be reached through a site system's port.

mod denials;
mod history;
mod listener;
mod page;
mod readiness;
mod server;
mod status;

pub use history::{History, Interval};
pub use readiness::Readiness;
pub use server::{AdminState, admin_router, metrics_router, serve};
pub use status::{
    BackendAddressStatus, BackendStatus, CertificateStatus, ClientsStatus, ConfigStatus,
    IssuerStatus, PlainHttpStatus, RejectedStatus, SiteServerStatus, SiteStatus, SiteSystemStatus,
    Status,
};
