//! The access log: one line for each request, with the decision and its reason.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use super::access_entry::Access;
use super::batch::{Batch, Writer};
use super::line::{header, header_before, line};
use super::recent::Recent;
use super::sink::{Losses, append};
use crate::config::{AccessFormat, LogSink};
use crate::metrics::{LogLost, Metrics};
use jiff::Timestamp;

thread_local! {
    /// A reused buffer for formatting one line at a time; the field limits bound its size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The sink of access log lines, and the recent denials. Cheap to clone; writing never blocks.
#[derive(Clone, Default)]
pub struct AccessLog {
    batch: Option<Batch>,
    format: AccessFormat,
    recent: Recent,
}

impl AccessLog {
    /// A log that writes nothing.
    pub fn off() -> Self {
        AccessLog::default()
    }

    /// A log into a sink, starting at that time, and its writer, which runs on its own thread.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn open(
        sink: &LogSink,
        format: AccessFormat,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> io::Result<(Self, Option<Writer>)> {
        let losses = Arc::new(Losses::before(LogLost::Access));
        losses.count_with(metrics);
        let (batch, writer) = match sink {
            LogSink::Off => return Ok((AccessLog::off(), None)),
            LogSink::Stderr => Batch::before(io::stderr(), losses),
            LogSink::File(path) => {
                let file = append(path)?;
                let own = file.try_clone()?;
                let (batch, writer) = Batch::before(file, losses);
                match format {
                    AccessFormat::W3c => (batch, writer.headed(own, header_before)),
                    AccessFormat::Json | AccessFormat::Combined => (batch, writer),
                }
            }
        };
        batch.put(header(format, now).as_bytes());
        Ok((AccessLog { batch: Some(batch), format, recent: Recent::default() }, Some(writer)))
    }

    /// Whether a request must be logged: always for a denied one.
    pub fn wants(&self, refused: bool) -> bool {
        refused || self.batch.is_some()
    }

    /// The recent denials.
    pub fn recent(&self) -> Recent {
        self.recent.clone()
    }

    /// Writes one line, or drops it if the sink cannot keep up; also stores a denial in the recent
    /// ones.
    pub fn write(&self, access: &Access<'_>) {
        self.recent.tell(access);
        let Some(batch) = &self.batch else { return };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            if line(self.format, access, scratch).is_some() {
                batch.put(scratch);
            }
        });
    }
}
