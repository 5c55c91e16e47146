//! Batched log writes on a dedicated thread: for the caller a line costs a copy, without a wake-up
//! or a system call. Lines beyond the buffer's capacity are dropped and counted.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sink::{Losses, Sink};
use crate::metrics::LineLost;

/// How long a line waits for others.
const GATHER: Duration = Duration::from_millis(10);
/// With this many bytes the batch is written at once.
const WORTH_WRITING: usize = 256 * 1024;
/// The most bytes that may wait while the sink is blocked.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long the end of a process waits for unwritten lines.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// The waiting lines. Cheap to clone; all clones share one batch.
#[derive(Clone)]
pub(super) struct Batch(Arc<BatchState>);

struct BatchState {
    waiting: Mutex<WaitingLines>,
    /// Wakes the thread.
    work: Condvar,
    /// The thread has ended.
    ended: Condvar,
    losses: Arc<Losses>,
}

#[derive(Default)]
struct WaitingLines {
    lines: Vec<u8>,
    closed: bool,
    has_ended: bool,
}

/// Writes a batch, on its own thread.
pub struct Writer {
    batch: Batch,
    sink: Sink<Box<dyn Write + Send>>,
    head: Option<FileHeader>,
}

/// The output file, and the function that makes its header from the first line.
type FileHeader = (File, fn(&[u8]) -> Option<String>);

/// On drop, has the waiting lines written, within a second.
pub struct BatchGuard(Batch);

impl Batch {
    /// A batch for a file or a stream, and its writer.
    pub(super) fn before(
        inner: impl Write + Send + 'static,
        losses: Arc<Losses>,
    ) -> (Self, Writer) {
        let sink = Sink::new(Box::new(inner) as Box<dyn Write + Send>, losses.clone());
        let (waiting, work, ended) = (Mutex::default(), Condvar::new(), Condvar::new());
        let batch = Batch(Arc::new(BatchState { waiting, work, ended, losses }));
        (batch.clone(), Writer { batch, sink, head: None })
    }

    fn lock(&self) -> MutexGuard<'_, WaitingLines> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a whole line.
    pub(super) fn put(&self, line: &[u8]) {
        let mut waiting = self.lock();
        let before = waiting.lines.len();
        let after = before + line.len();
        if after > BYTES_MAX || waiting.has_ended {
            drop(waiting);
            self.0.losses.count(LineLost::QueueFull, 1, &"they come faster than they are written");
            return;
        }
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if before == 0 || (before < WORTH_WRITING && after >= WORTH_WRITING) {
            self.0.work.notify_one();
        }
    }
}

impl Writer {
    /// Writes lines until the batch is closed and empty. Runs on its own thread.
    pub fn run(mut self) {
        let shared = &self.batch.0;
        let mut lines = Vec::new();
        loop {
            let waiting = self.batch.lock();
            let idle = |waiting: &mut WaitingLines| waiting.lines.is_empty() && !waiting.closed;
            let waiting =
                shared.work.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
            let few =
                |waiting: &mut WaitingLines| waiting.lines.len() < WORTH_WRITING && !waiting.closed;
            let waited = shared.work.wait_timeout_while(waiting, GATHER, few);
            let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut waiting.lines, &mut lines);
            if lines.is_empty() {
                waiting.has_ended = true;
                shared.ended.notify_all();
                return;
            }
            drop(waiting);
            if let Some((file, before)) = &self.head
                && file.metadata().is_ok_and(|file| file.is_file() && file.len() == 0)
                && let Some(head) = before(&lines)
            {
                self.sink.begin_anew();
                lines.splice(..0, head.into_bytes());
            }
            // It never fails; it counts lost lines.
            let _ = self.sink.write(&lines);
            lines.clear();
            lines.shrink_to(2 * WORTH_WRITING);
        }
    }

    /// The same for a file that gets a header whenever it is empty.
    pub(super) fn headed(self, file: File, before: fn(&[u8]) -> Option<String>) -> Self {
        Writer { head: Some((file, before)), ..self }
    }

    /// A guard that closes the batch.
    pub fn guard(&self) -> BatchGuard {
        BatchGuard(self.batch.clone())
    }
}

impl Drop for BatchGuard {
    fn drop(&mut self) {
        let batch = &self.0;
        let mut waiting = batch.lock();
        waiting.closed = true;
        batch.0.work.notify_one();
        // A hanging disk does not block the exit forever.
        let open = |waiting: &mut WaitingLines| !waiting.has_ended;
        let waited = batch.0.ended.wait_timeout_while(waiting, LAST_WRITE, open);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        waiting.has_ended = true;
        let left = waiting.lines.iter().filter(|byte| **byte == b'\n').count();
        drop(waiting);
        if left > 0 {
            let why = "the process ends before they are written";
            batch.0.losses.count(LineLost::QueueFull, left as u64, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::*;
    use crate::metrics::{LogLost, Metrics};

    /// Reports each write at once, and blocks until released.
    struct Slow {
        told: mpsc::Sender<Vec<u8>>,
        may: mpsc::Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.told.send(bytes.to_vec()).unwrap();
            self.may.recv().unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn batched_lines_keep_their_order_and_overflow_is_counted() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let losses = Arc::new(Losses::before(LogLost::Access));
        losses.count_with(metrics.clone());
        let ((told, written), (let_go, may)) = (mpsc::channel(), mpsc::channel());
        let (batch, writer) = Batch::before(Slow { told, may }, losses);
        let guard = writer.guard();
        std::thread::spawn(move || writer.run());
        batch.put(b"first\n");
        assert_eq!(written.recv().unwrap(), b"first\n");
        // The write is still blocked: all of these wait.
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..BYTES_MAX / line.len() + 3 {
            batch.put(&line);
        }
        let lost = "dropped_lines_total{log=\"access\",reason=\"queue_full\"} 3";
        assert!(metrics.render().contains(lost), "{}", metrics.render());
        for _ in 0..2 {
            let_go.send(()).unwrap();
        }
        assert_eq!(written.recv().unwrap().len(), BYTES_MAX);
        batch.put(b"last\n");
        let_go.send(()).unwrap();
        drop(guard);
        assert_eq!(written.recv().unwrap(), b"last\n");
    }
}
