//! Logs: what sitegate says about itself, on standard error and in files for CMTrace, and one line
//! for each request.
//!
//! Writing never holds up a request: lines that cannot be written in time are dropped.

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
pub use setup::{Guard, count_losses, init};
