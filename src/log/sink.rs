//! Where the lines of a log are written, and what becomes of those that cannot be: they are dropped,
//! counted, and told of once for each outage.
//!
//! What could be written of a line before the disk was full never runs into the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::{LineLost, LogLost, Metrics};

/// An outage is over once nothing was dropped for this long: one that comes and goes is one.
const OUTAGE: Duration = Duration::from_secs(60);

/// The mode of a file that is made here: logs name devices, users and addresses, which are not for
/// everybody on the machine. A stricter umask holds; so does the mode of a file that exists.
const MODE: u32 = 0o640;

/// Open a file for appending lines, made if it is not there.
///
/// # Errors
/// What the system says.
pub(super) fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

/// What was dropped, counted.
pub(super) struct Losses {
    log: LogLost,
    metrics: OnceLock<Arc<Metrics>>,
    last: Mutex<Option<Instant>>,
}

impl Losses {
    /// Of that log, before there is anything to count with.
    pub(super) fn before(log: LogLost) -> Self {
        Losses { log, metrics: OnceLock::new(), last: Mutex::default() }
    }

    /// Count from now on.
    pub(super) fn count_with(&self, metrics: Arc<Metrics>) {
        let _ = self.metrics.set(metrics);
    }

    /// Lines were dropped. Tells the log of it if that begins an outage.
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

/// A file or a stream, to which each write is one line, or several.
pub(super) struct Sink<W> {
    inner: W,
    /// Whether a part of a line was written, and its end was not.
    torn: bool,
    losses: Arc<Losses>,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(inner: W, losses: Arc<Losses>) -> Self {
        Sink { inner, torn: false, losses }
    }

    /// What was torn is gone: somebody emptied the file.
    pub(super) fn begin_anew(&mut self) {
        self.torn = false;
    }

    /// Fails with what could not be written.
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
    /// Never fails: there is nobody who could do more about it than count.
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
    fn a_log_is_made_for_its_user_and_group_and_keeps_the_mode_that_it_has() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        append(&path).unwrap();
        // This test's umask may be stricter, not laxer.
        assert_eq!(mode() & !MODE, 0, "{:o}", mode());
        for kept in [0o644, 0o600, 0o660] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(kept)).unwrap();
            append(&path).unwrap();
            assert_eq!(mode(), kept);
        }
    }

    /// A disk with so much room.
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
    fn a_line_that_the_disk_cuts_off_does_not_run_into_the_next_one_and_is_counted() {
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
    fn an_outage_begins_once_however_long_it_lasts_and_again_after_it_was_over() {
        let losses = Losses::before(LogLost::Access);
        let begin = Instant::now();
        for (second, begins) in [(0, true), (1, false), (59, false), (110, false), (169, false)] {
            assert_eq!(losses.begins(begin + Duration::from_secs(second)), begins, "{second}");
        }
        assert!(losses.begins(begin + Duration::from_secs(169) + OUTAGE));
    }
}
