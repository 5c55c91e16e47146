//! Lines that wait to be written by a thread of the writer's own: nobody else waits for a disk or a
//! terminal. What finds no place is dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::sink::{Losses, Sink};
use crate::metrics::LineLost;

/// The lines that wait. Cheap to clone; each clone puts into the same queue.
#[derive(Clone)]
pub(super) struct Queue {
    writer: NonBlocking,
    losses: Arc<Losses>,
    /// How many found no place in it, and how many of these were counted.
    full: ErrorCounter,
    counted: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue before a file or a stream, and the guard that writes out what waits when dropped.
    pub(super) fn before(
        inner: impl Write + Send + 'static,
        losses: Arc<Losses>,
    ) -> (Self, WorkerGuard) {
        let sink = Sink::new(inner, losses.clone());
        let (writer, guard) = NonBlockingBuilder::default().lossy(true).finish(sink);
        let full = writer.error_counter();
        (Queue { writer, losses, full, counted: Arc::default() }, guard)
    }

    /// Put a whole line.
    pub(super) fn put(&self, line: &[u8]) {
        // Lossy: the only failure is a worker that is gone, and then there is no log.
        let _ = self.writer.clone().write_all(line);
        let full = self.full.dropped_lines();
        if full != self.counted.load(Ordering::Relaxed) {
            let before = self.counted.fetch_max(full, Ordering::Relaxed);
            let lines = full.saturating_sub(before) as u64;
            self.losses.count(LineLost::QueueFull, lines, &"they come faster than they are taken");
        }
    }
}

/// Each write is a line: what formats events writes each of them at once.
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
