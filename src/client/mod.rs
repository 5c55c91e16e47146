//! Client certificates as values: the certificate of a connection, the trust of a site system, and
//! the validation of one against the other.
//!
//! No files, no sockets, no clock: bytes and the time are arguments. Validation is per request, not
//! in the TLS handshake.

mod judge;
mod presented;
mod trust;

pub use judge::CertificateVerdict;
pub use presented::Presented;
pub use trust::{Authorities, ClientTrust, Crls, Unusable};
