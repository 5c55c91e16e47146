//! The site's own authority: certificates for site systems without PKI certificates, the token
//! service and its key, and the store of devices, tokens and blocks.
//!
//! Owns the state directory's `authority`, `store` and `token` folders. Never replaces a root
//! except by a rollover, and never stops a gateway that has other certificates to serve.

mod authority;
mod blocks;
mod files;
mod key_ring;
mod known_blocks;
mod publication;
mod ring;
mod rolling;
mod rollover;
pub mod server;
mod service;
mod shared_keys;
mod state;
pub mod store;
mod token_key_error;
mod tokens;

pub use authority::{
    Authority, AuthorityFacts, AuthorityParams, BlockError, BlockedCertificate, Issued, RootsError,
    ShownKind, ShownState, Tried,
};
pub use blocks::{InForce, OnBlocks, SiteBlocks};
pub use key_ring::Keys;
pub use publication::publication;
pub use ring::{Ring, Stage, Thing};
pub use rolling::{Progress, Rollover};
pub use rollover::{JWKS_CACHED_S, RolloverError, RolloverStep, StepRefusal, StepRefused, Terms};
pub use service::{
    OnAnswer, OnRival, RivalClaim, ServiceEndpoint, ServiceParams, TokenService, serve,
};
pub use shared_keys::{Seal, SharedKeys, SharedKeysError};
pub use state::{StateDir, StateError, owner};
pub use token_key_error::TokenKeyError;
pub use tokens::{SiteTokens, bundle_keys};
