//! The access log: one JSON object for each request, with the decision and its reason.
//!
//! Never a token, a query or a header beyond those named here.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use serde::Serialize;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::recent::{Recent, cut as cut_at};
use super::sink::{Losses, Sink};
use crate::config::LogSink;
use crate::metrics::{LineLost, Metrics};

/// What a client may make one field of a line: longer values are cut.
const FIELD_CHARS_MAX: usize = 512;

/// One request, as it is logged.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "docs/access-log.md has a row for each field")]
pub struct Access<'a> {
    pub time: Timestamp,
    pub request_id: &'a str,
    pub site_system: &'a str,
    pub client: IpAddr,
    pub connection: u64,
    pub protocol: &'a str,
    pub tls: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut_some")]
    pub host: Option<&'a str>,
    #[serde(serialize_with = "cut")]
    pub method: &'a str,
    #[serde(serialize_with = "cut")]
    pub path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut_some")]
    pub user_agent: Option<&'a str>,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substatus: Option<u8>,
    pub decision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut_some")]
    pub detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut_some")]
    pub kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    pub received: usize,
    pub sent: usize,
    pub duration_ms: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

impl Access<'_> {
    /// Nothing is known.
    pub fn unread() -> Self {
        Access {
            time: Timestamp::UNIX_EPOCH,
            request_id: "",
            site_system: "",
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            connection: 0,
            protocol: "HTTP/1.1",
            tls: "",
            sni: None,
            host: None,
            method: "",
            path: "",
            user_agent: None,
            status: 0,
            substatus: None,
            decision: "denied",
            reason: None,
            detail: None,
            route: None,
            issuer: None,
            device: None,
            user: None,
            purpose: None,
            token_id: None,
            token: None,
            kid: None,
            certificate: None,
            upstream_status: None,
            received: 0,
            sent: 0,
            duration_ms: 0.0,
            incomplete: false,
        }
    }
}

fn short(text: &str) -> &str {
    cut_at(text, FIELD_CHARS_MAX)
}

fn cut<S: serde::Serializer>(text: &str, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(short(text))
}

fn cut_some<S: serde::Serializer>(text: &Option<&str>, s: S) -> Result<S::Ok, S::Error> {
    match text {
        Some(text) => s.serialize_some(short(text)),
        None => s.serialize_none(),
    }
}

/// Where lines go, and where the last refusals are kept. Cheap to clone; writing never waits.
#[derive(Clone, Default)]
pub struct AccessLog {
    queue: Option<Queue>,
    recent: Recent,
}

/// The lines that wait to be written.
#[derive(Clone)]
struct Queue {
    writer: NonBlocking,
    losses: Arc<Losses>,
    /// How many found no place in it, and how many of these were counted.
    full: ErrorCounter,
    counted: Arc<AtomicUsize>,
}

impl Queue {
    fn put(&self, line: &[u8]) {
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

impl AccessLog {
    /// A log that writes nothing.
    pub fn off() -> Self {
        AccessLog::default()
    }

    /// A log into a sink, and the guard that writes out what is queued when dropped.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn open(sink: &LogSink, metrics: Arc<Metrics>) -> io::Result<(Self, Option<WorkerGuard>)> {
        let losses = Arc::new(Losses::new(metrics));
        let queue = NonBlockingBuilder::default().lossy(true);
        let (writer, guard) = match sink {
            LogSink::Off => return Ok((AccessLog::off(), None)),
            LogSink::Stderr => queue.finish(Sink::new(io::stderr(), losses.clone())),
            LogSink::File(path) => {
                let file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
                queue.finish(Sink::new(file, losses.clone()))
            }
        };
        let (full, counted) = (writer.error_counter(), Arc::default());
        let queue = Some(Queue { writer, losses, full, counted });
        Ok((AccessLog { queue, recent: Recent::default() }, Some(guard)))
    }

    /// Whether anybody wants to know of a request: of one that something was against, always.
    pub fn wants(&self, refused: bool) -> bool {
        refused || self.queue.is_some()
    }

    /// The last refusals.
    pub fn recent(&self) -> Recent {
        self.recent.clone()
    }

    /// Write one line, or drop it if the sink cannot keep up; remember it if it is of a refusal.
    pub fn write(&self, access: &Access<'_>) {
        self.recent.tell(access);
        let Some(queue) = &self.queue else { return };
        if let Ok(mut line) = serde_json::to_vec(access) {
            line.push(b'\n');
            queue.put(&line);
        }
    }
}
