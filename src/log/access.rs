//! The access log: one line for each request, with the decision and its reason. The JSON format has
//! all fields.
//!
//! Never contains a token, a query or a header beyond those named here.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::batch::{Batch, Writer};
use super::line::{FIELD_CHARS_MAX, header, header_before, line};
use super::recent::{Recent, cut as cut_at};
use super::sink::{Losses, append};
use crate::config::{AccessFormat, LogSink};
use crate::metrics::{LogLost, Metrics};
use jiff::Timestamp;
use serde::Serialize;

/// A log entry for one request.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "docs/access-log.md has a row for each field")]
pub struct Access<'a> {
    pub time: Timestamp,
    pub request_id: &'a str,
    pub site_system: &'a str,
    pub client: IpAddr,
    #[serde(skip)]
    pub local: Option<SocketAddr>,
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
    pub origin_issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_subject: Option<&'a str>,
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
    pub upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_connect_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_first_byte_ms: Option<f64>,
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
            local: None,
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
            origin_issuer: None,
            origin_subject: None,
            purpose: None,
            token_id: None,
            token: None,
            kid: None,
            certificate: None,
            upstream: None,
            upstream_status: None,
            upstream_connect_ms: None,
            upstream_first_byte_ms: None,
            received: 0,
            sent: 0,
            duration_ms: 0.0,
            incomplete: false,
        }
    }
}

thread_local! {
    /// A reused buffer for formatting one line at a time; the field limits bound its size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
