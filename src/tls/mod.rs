//! A credential made into what handshakes use, and tried before any client sees it.
//!
//! No files and no sockets. The cryptography is an argument, never the process's default.

mod client_config;
mod client_verifier;
mod remembering;
mod server_config;
mod trial;

pub use client_config::ClientConfigs;
pub use server_config::{TlsOptions, refusing, server_config};
pub use trial::{Client, trial};
