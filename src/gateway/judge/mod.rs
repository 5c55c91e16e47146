//! Judges whether a request may pass: its framing, host, path, route, token, certificate and
//! message, by the current policy. Does no I/O.

pub(super) mod certificate;
pub(super) mod decide;
pub(super) mod framing;
pub(super) mod head;
pub(super) mod headers;
pub(super) mod hops;
pub(super) mod host;
pub(super) mod message_guard;
pub(super) mod modes;
pub(super) mod observe;
pub(super) mod plain_http;
pub(super) mod policy;
pub(super) mod target;
pub(super) mod trace;
pub(super) mod upgrade;
pub(super) mod verdict;
