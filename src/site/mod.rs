//! The site's own authority: certificates for site systems that no PKI has given any, the token
//! service and its key, and what it keeps about devices, tokens and blocks.
//!
//! Owns the state directory's `authority`, `store` and `token` folders. Never replaces a root that
//! nobody rolls over, and never stops a gateway that has other certificates to serve.

mod authority;
mod blocks;
mod files;
mod key_ring;
mod known;
mod publication;
mod ring;
mod rolling;
mod rollover;
pub mod server;
mod service;
mod shared_keys;
mod state;
pub mod store;
mod tokens;

pub use authority::{
    Authority, AuthorityParams, BlockError, BlockedCertificate, Issued, RootsError, Shown,
    ShownKind, ShownState, Tried,
};
pub use blocks::{Blocks, InForce, OnBlocks};
pub use key_ring::Keys;
pub use publication::publication;
pub use ring::{Ring, Stage, Thing};
pub use rolling::{Progress, Rollover};
pub use rollover::{JWKS_CACHED_S, Refusal, Refused, RolloverError, Step, Terms};
pub use service::{
    Endpoint, OnAnswer, OnRival, RivalClaim, ServiceParams, TokenService, listen, serve,
};
pub use shared_keys::{Seal, SharedKeys, SharedKeysError};
pub use state::{StateDir, StateError, owner};
pub use tokens::{SiteTokens, TokenKeyError, bundle_keys};
