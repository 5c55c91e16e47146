//! sitegate: HTTPS in front of unchanged HTTP site systems.
//!
//! Three values travel through this crate, each on a road of its own:
//!
//! * **A request**: accepted and limited by [`front`], TLS by [`tls`], parsed by pingora under
//!   [`gateway`], which judges framing, path ([`route`]), token ([`token`]) and requirement, or the
//!   message ([`message`]) of a client that has no token yet, removes what clients may not say, adds
//!   who they are, and forwards.
//! * **A certificate**: files are watched and loaded by [`control`], judged and selected by [`cert`],
//!   made into a TLS configuration by [`tls`], tried, published, and used by the next handshake. The
//!   embedded authority in [`site`] issues one where no PKI does.
//! * **A configuration**: typed into one file, understood by [`config`], reloaded whole or not at all.
//!
//! Everything is put together in [`app`] and nowhere else. ARCHITECTURE.md says who may import whom.

/// How this program was built: `plain`, or `profile-guided` by `make release`.
pub const BUILD: &str = match option_env!("SITEGATE_PROFILE_GUIDED") {
    Some(_) => "profile-guided",
    None => "plain",
};

/// Version and build, as people are told.
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
pub mod live;
pub mod lost;
pub mod metrics;
pub mod pem;
pub mod purpose;
pub mod rate;
pub mod refetch;
pub mod secret;
pub mod unfit;

// pure rooms
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

pub mod sim;

pub mod app;
pub mod cli;
