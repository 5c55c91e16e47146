//! Logs: events on standard error and in CMTrace files, and the access log.
//!
//! Logging never blocks a request: lines that cannot be written in time are dropped.

mod access;
mod batch;
mod cmtrace;
mod line;
mod queue;
mod recent;
mod setup;
mod sink;

pub use access::{Access, AccessLog};
pub use batch::{BatchGuard, Writer};
pub use recent::{Recent, RecentDenial};
pub use setup::{LogGuard, count_losses, init};
