//! The metric of what the access log has lost.
//!
//! Labels are words of a closed list alone.

use prometheus::core::{Collector, Desc};
use prometheus::{IntCounter, IntCounterVec, Registry};

use super::counters;

/// Why a line of the access log was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineLost {
    /// Lines came faster than the sink takes them.
    QueueFull,
    /// The system refused to write it.
    WriteFailed,
}

impl LineLost {
    /// Every reason, in the order of the documentation.
    pub const ALL: [LineLost; 2] = [LineLost::QueueFull, LineLost::WriteFailed];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            LineLost::QueueFull => "queue_full",
            LineLost::WriteFailed => "write_failed",
        }
    }
}

/// How many lines were dropped.
pub struct LogMetrics {
    all: IntCounterVec,
    each: Vec<IntCounter>,
}

impl LogMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let all = counters(
            r,
            "access_log_dropped_lines_total",
            "Lines of the access log that were dropped, by reason.",
            &["reason"],
        )?;
        let each = LineLost::ALL.iter().map(|e| all.with_label_values(&[e.as_str()])).collect();
        Ok(LogMetrics { all, each })
    }

    /// Lines were dropped.
    pub fn lost(&self, why: LineLost, lines: u64) {
        if let Some(counter) = self.each.get(why as usize) {
            counter.inc_by(lines);
        }
    }

    pub(super) fn descriptions(&self) -> Vec<&Desc> {
        self.all.desc()
    }
}
