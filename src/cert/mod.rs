//! Certificates as values: what a credential is, whether a client would accept it, which one to
//! serve, and how the site issues its own.
//!
//! No files, no sockets, no clock: bytes and the time come in as arguments.

mod anchors;
mod check;
mod credential;
mod export;
mod facts;
mod fault;
pub mod forge;
pub mod issuer;
mod limits;
mod ocsp;
pub mod pfx;
mod pfx_form;
pub mod request;
mod select;
mod verdicts;
mod walk;

pub use anchors::Anchors;
pub use check::{Expectation, check, faults};
pub use credential::{Credential, Source};
pub use export::{certificate_der, p7b};
pub use facts::{Facts, KeyKind, spki_sha256};
pub use fault::Fault;
pub use ocsp::{Staple, Unstapled};
pub use select::{Judged, Offer, Rejected, Selection, Why, select};
pub use verdicts::Verdicts;
