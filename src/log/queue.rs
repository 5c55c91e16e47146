//! A queue of log lines with a dedicated writer thread: no caller waits for a disk or a terminal.
//! Lines beyond its capacity are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::sink::{Losses, Sink};
use crate::metrics::LineLost;

/// The waiting lines. Cheap to clone; all clones share one queue.
#[derive(Clone)]
pub(super) struct Queue {
    writer: NonBlocking,
    losses: Arc<Losses>,
    /// The number of lines dropped by the queue, and how many of them were counted.
    full: ErrorCounter,
    counted: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue for a file or a stream, and the guard that writes the waiting lines when dropped.
    pub(super) fn before(
        inner: impl Write + Send + 'static,
        losses: Arc<Losses>,
    ) -> (Self, WorkerGuard) {
        let sink = Sink::new(inner, losses.clone());
        let (writer, guard) = NonBlockingBuilder::default().lossy(true).finish(sink);
        let full = writer.error_counter();
        (Queue { writer, losses, full, counted: Arc::default() }, guard)
    }

    /// Appends a whole line.
    pub(super) fn put(&self, line: &[u8]) {
        // Lossy: the only failure is a worker that has ended, and then there is no log.
        let _ = self.writer.clone().write_all(line);
        let full = self.full.dropped_lines();
        if full != self.counted.load(Ordering::Relaxed) {
            let before = self.counted.fetch_max(full, Ordering::Relaxed);
            let lines = full.saturating_sub(before) as u64;
            self.losses.count(
                LineLost::QueueFull,
                lines,
                &"they come faster than they are written",
            );
        }
    }
}

/// Each write is a line: the event formatter writes each of them at once.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Queue;

    fn make_writer(&self) -> Queue {
        self.clone()
    }
}
