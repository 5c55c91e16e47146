//! What is shown to those who run sitegate: metrics and health on one listener, status on another.
//!
//! The page is on the listener of status. Reads; changes nothing. Neither listener can be reached through a site system's port.

mod denials;
mod history;
mod listener;
mod page;
mod readiness;
mod server;
mod status;

pub use history::{History, Interval};
pub use readiness::Readiness;
pub use server::{Shown, admin_router, metrics_router, serve};
pub use status::{
    BackendAddressStatus, BackendStatus, CertificateStatus, ClientsStatus, ConfigStatus,
    IssuerStatus, PlainHttpStatus, RejectedStatus, SiteServerStatus, SiteStatus, SiteSystemStatus,
    Status,
};
