//! Logs: events on standard error and in CMTrace files, and the access log.
//!
//! Logging never blocks a request: lines that cannot be written in time are dropped.

mod access_entry;
mod access_log;
mod batch;
mod cmtrace;
mod line;
mod queue;
mod recent;
mod setup;
mod sink;

pub use access_entry::Access;
pub use access_log::AccessLog;
pub use batch::{BatchGuard, Writer};
pub use recent::{Recent, RecentDenial};
pub use setup::{LogGuard, count_losses, init};
