//! The site's own authority: certificates for site systems that no PKI has given any, the key that
//! signs the site's tokens, and what it keeps about devices, tokens and blocks.
//!
//! Owns the state directory's `authority`, `store` and `token` folders. Never replaces a root, and
//! never stops a gateway that has other certificates to serve.

mod authority;
mod files;
pub mod store;
mod tokens;

pub use authority::{Authority, AuthorityParams, Issued, Overview};
pub use tokens::{SiteTokens, TokenKeyError};
