//! The site's own authority: certificates for site systems that no PKI has given any.
//!
//! Owns the state directory's `authority` folder. Never replaces a root, and never stops a gateway
//! that has other certificates to serve.

mod authority;
mod files;

pub use authority::{Authority, AuthorityParams, Issued, Overview};
