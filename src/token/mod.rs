//! Tokens as values: found in a request head, verified against keys, read as an identity, minted.
//!
//! No files, no sockets, no clock: bytes and the time come in as arguments.
