//! Tokens as values: found in a request's header, verified with keys, read as an identity, signed.
//!
//! No files, no sockets, no clock: bytes and the time are arguments. Nothing is fetched because of
//! a token, and nothing in a token chooses how it is verified.

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
pub use bundle::{
    BUNDLE_BYTES_MAX, Block, Bundle, BundleDelta, BundleHead, BundleKeys, BundleRefusal,
    BundleSettings, BundleTrust, OpenedBundle, block_name,
};
pub use cache::{Fingerprint, Identified, TokenCache, identify};
pub use client_key::{ClientKey, ClientKeyFault};
pub use identity::Identity;
pub use inspect::{Accepted, InspectRefusal, TokenInspection, inspect};
pub use issuer::{Issuer, IssuerKind, OidcClaims, site_issuer};
pub use join::{JOIN_LIFE_MAX_S, JoinToken, join_fingerprint};
pub use keys::{FILE_BYTES_MAX, KEYS_MAX, KeyProblem, KeySet, VerifyingKey};
pub use mint::{LIFETIME_MAX_S, MintError, MintRequest, SignerKind, TokenSigner, jwks, lifetime_s};
pub use origin::{ORIGINS_MAX, TokenOrigin};
pub use refusal::{Missed, Refusal};
pub use registration::ClientMetadata;
pub use scope::ContentScope;
pub(crate) use text::is_identity_text;
pub use verify::{Trusted, Verified, verify};

#[cfg(test)]
mod tests;
