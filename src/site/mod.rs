//! The site's own authority: certificates for site systems that no PKI has given any, the token
//! service and its key, and what it keeps about devices, tokens and blocks.
//!
//! Owns the state directory's `authority`, `store` and `token` folders. Never replaces a root, and
//! never stops a gateway that has other certificates to serve.

mod authority;
mod blocks;
mod bundle_key;
mod files;
pub mod server;
mod service;
mod shared_keys;
pub mod store;
mod tokens;

pub use authority::{Authority, AuthorityParams, Issued, Overview};
pub use blocks::{Blocks, OnBlocks};
pub use bundle_key::{BundleKeyError, BundleSigners};
pub use service::{Endpoint, OnAnswer, ServiceParams, TokenService, listen, serve};
pub use shared_keys::{Seal, SharedKeys, SharedKeysError};
pub use tokens::{SiteTokens, TokenKeyError};
