//! Certificates as values: what a credential is, whether a client would accept it, which one to
//! serve, and how the site issues its own.
//!
//! No files, no sockets, no clock: bytes and the time come in as arguments.
