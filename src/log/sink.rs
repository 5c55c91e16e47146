//! The writing end of a log: lines that cannot be written are dropped and counted, with one warning
//! for each outage.
//!
//! A partially written line (disk full) never runs into the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::{LineLost, LogLost, Metrics};
use crate::os::{Exposure, open_for};

/// An outage is over once nothing was dropped for this long: a flapping one is one outage.
const OUTAGE: Duration = Duration::from_secs(60);

/// Opens a file for appending lines, and creates it if it does not exist: logs name devices, users
/// and addresses, and should not be world-readable. An existing file keeps its mode.
///
/// # Errors
/// The system's error.
pub(super) fn append(path: &Path) -> io::Result<File> {
    open_for(OpenOptions::new().append(true).create(true), Exposure::Group).open(path)
}

/// Counts dropped lines.
pub(super) struct Losses {
    log: LogLost,
    metrics: OnceLock<Arc<Metrics>>,
    last: Mutex<Option<Instant>>,
}

impl Losses {
    /// For that log, before there are metrics.
    pub(super) fn before(log: LogLost) -> Self {
        Losses { log, metrics: OnceLock::new(), last: Mutex::default() }
    }

    /// Counts into these metrics from now on.
    pub(super) fn count_with(&self, metrics: Arc<Metrics>) {
        let _ = self.metrics.set(metrics);
    }

    /// Counts dropped lines. Logs a warning if they begin an outage.
    pub(super) fn count(&self, why: LineLost, lines: u64, cause: &dyn std::fmt::Display) {
        if let Some(metrics) = self.metrics.get() {
            metrics.log.lost(self.log, why, lines);
        }
        if self.begins(Instant::now()) {
            tracing::warn!(
                target: "sitegate::log",
                log = self.log.as_str(), reason = why.as_str(), %cause,
                "lines of a log are dropped; sitegate_log_dropped_lines_total counts them"
            );
        }
    }

    fn begins(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.replace(now);
        before.is_none_or(|before| now.duration_since(before) >= OUTAGE)
    }
}

/// A file or a stream; each write is one or more lines.
pub(super) struct Sink<W> {
    inner: W,
    /// Whether the last line was written only partially.
    torn: bool,
    losses: Arc<Losses>,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(inner: W, losses: Arc<Losses>) -> Self {
        Sink { inner, torn: false, losses }
    }

    /// Forgets a partial line, because the file was truncated.
    pub(super) fn begin_anew(&mut self) {
        self.torn = false;
    }

    /// On failure, returns the unwritten bytes.
    fn lines<'l>(&mut self, lines: &'l [u8]) -> Result<(), (io::Error, &'l [u8])> {
        if self.torn {
            self.put(b"\n").map_err(|(error, _)| (error, lines))?;
        }
        self.put(lines)
    }

    fn put<'l>(&mut self, mut bytes: &'l [u8]) -> Result<(), (io::Error, &'l [u8])> {
        while !bytes.is_empty() {
            match self.inner.write(bytes) {
                Ok(0) => return Err((io::ErrorKind::WriteZero.into(), bytes)),
                Ok(written) => {
                    let (done, rest) = bytes.split_at(written.min(bytes.len()));
                    self.torn = !done.ends_with(b"\n");
                    bytes = rest;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((error, bytes)),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Sink<W> {
    /// Never fails: the caller could do no more than count the loss.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if let Err((error, lost)) = self.lines(lines) {
            let ends = lost.iter().filter(|byte| **byte == b'\n').count();
            self.losses.count(LineLost::WriteFailed, ends as u64, &error);
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_log_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        append(&path).unwrap();
        // The umask of this test may be stricter, not laxer.
        assert_eq!(mode() & !0o640, 0, "{:o}", mode());
        for kept in [0o644, 0o600, 0o660] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(kept)).unwrap();
            append(&path).unwrap();
            assert_eq!(mode(), kept);
        }
    }

    /// A disk with this much space.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let here = bytes.len().min(self.room).min(3);
            if here == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= here;
            self.written.extend_from_slice(&bytes[..here]);
            Ok(here)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lost(metrics: &Metrics) -> bool {
        let text = metrics.render();
        text.contains("dropped_lines_total{log=\"access\",reason=\"write_failed\"} 2")
            && text.contains("dropped_lines_total{log=\"access\",reason=\"queue_full\"} 0")
    }

    #[test]
    fn a_line_cut_off_by_the_disk_does_not_run_into_the_next() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let losses = Arc::new(Losses::before(LogLost::Access));
        losses.count_with(metrics.clone());
        let mut sink = Sink::new(Disk { written: Vec::new(), room: 10 }, losses);
        for lines in ["first\n", "second\nthird\n"] {
            assert_eq!(sink.write(lines.as_bytes()).unwrap(), lines.len());
        }
        sink.inner.room = 100;
        sink.write_all(b"fourth\n").unwrap();
        assert_eq!(String::from_utf8_lossy(&sink.inner.written), "first\nseco\nfourth\n");
        assert!(lost(&metrics), "{}", metrics.render());
    }

    #[test]
    fn an_outage_begins_once_until_it_is_over() {
        let losses = Losses::before(LogLost::Access);
        let begin = Instant::now();
        for (second, begins) in [(0, true), (1, false), (59, false), (110, false), (169, false)] {
            assert_eq!(losses.begins(begin + Duration::from_secs(second)), begins, "{second}");
        }
        assert!(losses.begins(begin + Duration::from_secs(169) + OUTAGE));
    }
}
