//! The metric of dropped log lines.
//!
//! Labels are words from a closed list only.

use prometheus::{Error, IntCounter};

use super::registrar::Registrar;

/// A log that can lose lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLost {
    /// The access log.
    Access,
    /// sitegate's own log, on standard error.
    Stderr,
    /// The same in files for CMTrace.
    Cmtrace,
}

impl LogLost {
    /// Every log, in the order of the documentation.
    pub const ALL: [LogLost; 3] = [LogLost::Access, LogLost::Stderr, LogLost::Cmtrace];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLost::Access => "access",
            LogLost::Stderr => "stderr",
            LogLost::Cmtrace => "cmtrace",
        }
    }
}

/// Why a line of a log was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineLost {
    /// Lines came faster than the sink accepts them.
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
pub struct LogMetrics(Vec<[IntCounter; 2]>);

impl LogMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        let dropped = r.counters(
            "log_dropped_lines_total",
            "Lines of logs that were dropped, by the log and the reason.",
            &["log", "reason"],
        )?;
        let of = |log: &LogLost| {
            LineLost::ALL.map(|why| dropped.with_label_values(&[log.as_str(), why.as_str()]))
        };
        Ok(LogMetrics(LogLost::ALL.iter().map(of).collect()))
    }

    /// Counts dropped lines.
    pub fn lost(&self, log: LogLost, why: LineLost, lines: u64) {
        let of = self.0.get(log as usize);
        if let Some(counter) = of.and_then(|reasons| reasons.get(why as usize)) {
            counter.inc_by(lines);
        }
    }
}
