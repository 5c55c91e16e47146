//! Paths and what they require: one canonical reading of a path, and the table that judges it.
//!
//! No files, no sockets, no clock.
