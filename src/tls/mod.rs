//! A credential made into what handshakes use, and tried before any client sees it.
//!
//! No files and no sockets. The cryptography is an argument, never the process's default.

mod backend_verifier;
mod client_config;
mod client_verifier;
mod remembering;
mod server_config;
mod to_site_server;
mod trial;
mod unjudged;

pub use client_config::ClientConfigs;
pub use server_config::{TlsOptions, refusing, server_config};
pub use to_site_server::{SiteServerTrust, root_key_name, to_site_server, x5t_s256};
pub use trial::{Client, trial};
pub use unjudged::unjudged;
