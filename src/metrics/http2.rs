//! The metric of HTTP/2 errors sent to clients, both for their mistakes and for sitegate's own.
//!
//! Labels are the codes of RFC 9113 §7 only.

use prometheus::{Error, IntCounter};

use super::registrar::Registrar;

/// An error code of a RST_STREAM or GOAWAY frame (RFC 9113 §7); NO_ERROR is not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Http2Error {
    ProtocolError,
    InternalError,
    FlowControlError,
    SettingsTimeout,
    StreamClosed,
    FrameSizeError,
    RefusedStream,
    Cancel,
    CompressionError,
    ConnectError,
    EnhanceYourCalm,
    InadequateSecurity,
    Http11Required,
}

impl Http2Error {
    /// Every code, in the order of the RFC: the first is 1.
    pub const ALL: [Http2Error; 13] = [
        Http2Error::ProtocolError,
        Http2Error::InternalError,
        Http2Error::FlowControlError,
        Http2Error::SettingsTimeout,
        Http2Error::StreamClosed,
        Http2Error::FrameSizeError,
        Http2Error::RefusedStream,
        Http2Error::Cancel,
        Http2Error::CompressionError,
        Http2Error::ConnectError,
        Http2Error::EnhanceYourCalm,
        Http2Error::InadequateSecurity,
        Http2Error::Http11Required,
    ];

    /// The error of a code; `None` if it is not an error.
    pub fn of(code: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code.checked_sub(1)?).ok()?).copied()
    }

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Http2Error::ProtocolError => "protocol_error",
            Http2Error::InternalError => "internal_error",
            Http2Error::FlowControlError => "flow_control_error",
            Http2Error::SettingsTimeout => "settings_timeout",
            Http2Error::StreamClosed => "stream_closed",
            Http2Error::FrameSizeError => "frame_size_error",
            Http2Error::RefusedStream => "refused_stream",
            Http2Error::Cancel => "cancel",
            Http2Error::CompressionError => "compression_error",
            Http2Error::ConnectError => "connect_error",
            Http2Error::EnhanceYourCalm => "enhance_your_calm",
            Http2Error::InadequateSecurity => "inadequate_security",
            Http2Error::Http11Required => "http_1_1_required",
        }
    }
}

/// How often each error was sent.
pub struct Http2Metrics(Vec<IntCounter>);

impl Http2Metrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        let errors = r.counters(
            "http2_errors_total",
            "Streams and connections of HTTP/2 that sitegate ended by an error, by its code.",
            &["code"],
        )?;
        let of = |error: &Http2Error| errors.with_label_values(&[error.as_str()]);
        Ok(Http2Metrics(Http2Error::ALL.iter().map(of).collect()))
    }

    /// Counts an error that was sent to a client.
    pub fn told(&self, error: Http2Error) {
        if let Some(counter) = self.0.get(error as usize) {
            counter.inc();
        }
    }
}
