//! sitegate: HTTPS in front of unchanged HTTP site systems.
//!
//! Three values travel through this crate, each on its own path:
//!
//! * **A request**: accepted and limited by [`front`], TLS by [`tls`], read by a session of
//!   [`gateway`], which checks framing, path ([`route`]), token ([`token`]) and requirement, or the
//!   message ([`message`]) of a client that has no token yet, removes header fields that clients
//!   may not set, adds the client's identity, and forwards.
//! * **A certificate**: files are watched and loaded by [`control`], checked and selected by
//!   [`cert`], made into a TLS configuration by [`tls`], tried, published, and used by the next
//!   handshake. The embedded CA in [`site`] issues one if there is no PKI certificate.
//! * **A configuration**: one file, resolved by [`config`], reloaded completely or not at all.
//!
//! Everything is assembled in [`app`] and nowhere else. ARCHITECTURE.md defines the permitted
//! imports.

/// How this program was built: `plain`, or `profile-guided` by `make release`.
pub const BUILD: &str = match option_env!("SITEGATE_PROFILE_GUIDED") {
    Some(_) => "profile-guided",
    None => "plain",
};

/// Version and build, for display.
pub const VERSION: &str = match option_env!("SITEGATE_PROFILE_GUIDED") {
    Some(_) => concat!(env!("CARGO_PKG_VERSION"), " (profile-guided build)"),
    None => concat!(env!("CARGO_PKG_VERSION"), " (plain build)"),
};

// ground
pub mod anchor;
pub mod backend_health;
pub mod clock;
pub mod denial;
pub mod encoding;
pub mod grant_denial;
pub mod gzip;
pub mod line_file;
pub mod live;
pub mod local_service;
pub mod metrics;
pub mod os;
pub mod pem;
pub mod purpose;
pub mod rate;
pub mod refetch;
pub mod secret;
pub mod thread_guard;
pub mod unfit;

// pure modules
pub mod cert;
pub mod client;
pub mod message;
pub mod route;
pub mod token;

pub mod config;
pub mod log;

// data plane
pub mod front;
pub mod gateway;
pub mod tls;

// control plane
pub mod admin;
pub mod control;
pub mod site;

pub mod app;
pub mod cli;
