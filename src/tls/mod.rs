//! TLS configurations: makes one from a credential, and tries it before any client uses it.
//!
//! No files and no sockets. The cryptography is an argument, never the process's default.

mod backend_verifier;
mod client_config;
mod client_verifier;
mod server_config;
mod session_size;
mod to_site_server;
mod trial;
mod unverified;

pub use client_config::ClientConfigs;
pub use server_config::{TlsOptions, refusing, server_config};
pub use to_site_server::{SiteServerTrust, root_key_name, to_site_server, x5t_s256};
pub use trial::{TrialClient, trial};
pub use unverified::unjudged;
