//! Tokens as values: found in a request head, verified against keys, read as an identity, minted.
//!
//! No files, no sockets, no clock: bytes and the time come in as arguments. Nothing in a token is
//! ever fetched, and nothing of it chooses how it is verified.

mod algorithm;
mod assertion;
mod bearer;
mod blocklist;
mod bundle;
mod cache;
mod claims;
mod client_key;
mod identity;
mod inspect;
mod issuer;
mod join;
mod json;
mod keys;
mod material;
mod mint;
mod origin;
mod refusal;
mod registration;
mod scope;
mod text;
mod verify;

pub use algorithm::Algorithm;
pub use assertion::{Asserted, Assertion, AssertionRequest};
pub use bearer::{BearerToken, TOKEN_BYTES_MAX, TokenSource, find};
pub use blocklist::{BLOCKLIST_BYTES_MAX, Blocking, Blocklist, BlocklistFault, IssuerNames};
pub use bundle::{BUNDLE_BYTES_MAX, Block, Bundle, BundleKeys, BundleRefusal, BundleTrust};
pub use cache::{Fingerprint, Identified, TokenCache, identify};
pub use client_key::{ClientKey, ClientKeyFault};
pub use identity::Identity;
pub use inspect::{Accepted, Inspection, Refused, inspect};
pub use issuer::{Issuer, IssuerKind, OidcClaims, site_issuer};
pub use join::{JOIN_LIFE_MAX_S, JoinToken, join_fingerprint};
pub use keys::{FILE_BYTES_MAX, KEYS_MAX, Key, KeyProblem, KeySet};
pub use mint::{LIFETIME_MAX_S, MintError, MintRequest, SignerKind, TokenSigner, jwks, lifetime_s};
pub use origin::{ORIGINS_MAX, Origin};
pub use refusal::{Missed, Refusal};
pub use registration::ClientMetadata;
pub use scope::ContentScope;
pub(crate) use text::is_identity_text;
pub use verify::{Trusted, Verified, verify};

#[cfg(test)]
mod tests;
