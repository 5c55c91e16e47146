//! Certificates as values: credentials, the checks a client would make, the selection of the one to
//! serve, and the site's own CA.
//!
//! No files, no sockets, no clock: bytes and the time are arguments.

mod anchors;
mod check;
mod credential;
mod export;
mod facts;
mod fault;
pub mod issuer;
mod limits;
mod ocsp;
pub mod pfx;
mod pfx_form;
pub mod request;
mod select;
mod template;
mod verdicts;
mod walk;

pub use anchors::Anchors;
pub use check::{Expectation, check, faults};
pub use credential::{Credential, Source};
pub use export::{certificate_der, p7b};
pub use facts::{Facts, KeyKind, spki_sha256};
pub use fault::CredentialFault;
pub use ocsp::{Staple, Unstapled};
pub use select::{Judged, Offer, Rejected, Selection, Why, select};
pub use verdicts::Verdicts;
