//! Client certificates as values: what a connection has proved, whom a site system trusts, and
//! whether the one is good by the other now.
//!
//! No files, no sockets, no clock: bytes and the time come in as arguments. TLS judges nothing here.

mod judge;
mod presented;
mod trust;

pub use judge::Verdict;
pub use presented::Presented;
pub use trust::{Authorities, ClientTrust, Crls, Unusable};
