//! The site's own authority: certificates for site systems that no PKI has given any, and the key
//! that signs the site's tokens.
//!
//! Owns the state directory's `authority` and `token` folders. Never replaces a root, and never stops a gateway
//! that has other certificates to serve.

mod authority;
mod files;
mod tokens;

pub use authority::{Authority, AuthorityParams, Issued, Overview};
pub use tokens::{SiteTokens, TokenKeyError};
