//! Watches the HTTP/2 frames of a connection: the h2 parser reports its refusals only to the
//! client, as RST_STREAM and GOAWAY frames.
//!
//! Reads frame heads and the error codes of these two kinds. Judges nothing, and keeps a few
//! counts.

use std::sync::Arc;

use crate::metrics::{Http2Error, Metrics};

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// Above the number of streams that a client may have open at once.
const OPEN_MAX: usize = 256;

/// The frames of one direction.
#[derive(Debug, Default)]
struct Frames {
    /// The head of the current frame, and the beginning of its payload.
    begun: [u8; HEAD_BYTES + 8],
    filled: usize,
    /// Bytes still to skip.
    skip: usize,
}

/// The parsed part of a frame: its kind, its stream, and the first eight bytes of its payload.
type FrameHead = (u8, u32, [u8; 8]);

impl Frames {
    fn after(skip: usize) -> Self {
        Frames { skip, ..Frames::default() }
    }

    /// Returns the next frame whose beginning is complete in `bytes`, and advances `bytes` past
    /// that.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<FrameHead> {
        loop {
            let skipped = self.skip.min(bytes.len());
            *bytes = bytes.get(skipped..).unwrap_or_default();
            self.skip -= skipped;
            if bytes.is_empty() {
                return None;
            }
            let wanted = HEAD_BYTES + self.payload().map_or(0, |length| length.min(8));
            while self.filled < wanted
                && let Some((byte, rest)) = bytes.split_first()
                && let Some(place) = self.begun.get_mut(self.filled)
            {
                *place = *byte;
                *bytes = rest;
                self.filled += 1;
            }
            let Some(length) = self.payload() else { continue };
            let here = length.min(8);
            if self.filled < HEAD_BYTES + here {
                continue;
            }
            let [_, _, _, kind, _, a, b, c, d, payload @ ..] = self.begun;
            *self = Frames::after(length - here);
            return Some((kind, u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1), payload));
        }
    }

    /// Returns the length of the frame's payload, once its head is complete.
    fn payload(&self) -> Option<usize> {
        let [a, b, c, ..] = self.begun;
        let length = u32::from_be_bytes([0, a, b, c]);
        (self.filled >= HEAD_BYTES).then(|| usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// Both directions, and their counts.
pub(super) struct FrameWatch {
    metrics: Arc<Metrics>,
    came: Frames,
    went: Frames,
    last: u32,
    /// Streams that the client has opened and that have had no response.
    open: Vec<u32>,
    /// The number of streams that were answered or reset.
    heard: u32,
    errors: [u32; Http2Error::ALL.len()],
    /// Whether an error ended the whole connection.
    broken: bool,
}

impl FrameWatch {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        FrameWatch {
            metrics,
            came: Frames::after(PREFACE_BYTES),
            went: Frames::default(),
            last: 0,
            open: Vec::new(),
            heard: 0,
            errors: Default::default(),
            broken: false,
        }
    }

    /// Reads bytes from the client.
    pub(super) fn came(&mut self, mut bytes: &[u8]) {
        while let Some((kind, stream, _)) = self.came.next(&mut bytes) {
            match kind {
                HEADERS if stream > self.last => {
                    self.last = stream;
                    if self.open.len() < OPEN_MAX {
                        self.open.push(stream);
                    }
                }
                RST_STREAM => {
                    self.is_open(stream);
                }
                _ => {}
            }
        }
    }

    /// Reads bytes to the client.
    pub(super) fn went(&mut self, mut bytes: &[u8]) {
        while let Some((kind, stream, [a, b, c, d, rest @ ..])) = self.went.next(&mut bytes) {
            match kind {
                HEADERS => self.hears(stream),
                RST_STREAM => {
                    self.hears(stream);
                    self.told(u32::from_be_bytes([a, b, c, d]));
                }
                GOAWAY => self.broken |= self.told(u32::from_be_bytes(rest)),
                _ => {}
            }
        }
    }

    /// Checks whether a stream has had no response so far, and forgets it.
    fn is_open(&mut self, stream: u32) -> bool {
        let place = self.open.iter().position(|open| *open == stream);
        place.map(|place| self.open.swap_remove(place)).is_some()
    }

    fn hears(&mut self, stream: u32) {
        let first = self.is_open(stream);
        self.heard = self.heard.saturating_add(u32::from(first));
    }

    fn told(&mut self, code: u32) -> bool {
        let Some(error) = Http2Error::of(code) else { return false };
        self.metrics.http2.told(error);
        if let Some(count) = self.errors.get_mut(error as usize) {
            *count = count.saturating_add(1);
        }
        true
    }

    /// Returns a summary for a closed connection, if the parser refused requests. `begun` is the
    /// number of requests that reached the gateway. The count is a lower bound: a stream that the
    /// client reset may be of either kind.
    pub(super) fn refused(&self, begun: u32) -> Option<String> {
        let unread = self.heard.saturating_sub(begun);
        if unread == 0 && !self.broken {
            return None;
        }
        let mut text = format!("HTTP/2: {unread} refused unread");
        for (error, count) in Http2Error::ALL.iter().zip(self.errors).filter(|(_, n)| *n > 0) {
            text.push_str(&format!(", {} {count}", error.as_str()));
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut out = vec![length[1], length[2], length[3], kind, 0];
        out.extend(stream.to_be_bytes());
        out.extend(payload);
        out
    }

    #[test]
    fn a_stream_refused_by_the_parser_is_reported_at_any_split() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let opened = [1, 3, 5, 7].map(|stream| frame(HEADERS, stream, b"block")).concat();
        // The client resets one stream, and sends trailers on another.
        let more = [frame(RST_STREAM, 7, &[0; 4]), frame(HEADERS, 1, b"trailers")].concat();
        let came = [preface, frame(4, 0, b""), opened, more].concat();
        let went = [
            frame(4, 0, &[1; 300]),
            frame(HEADERS, 1, b"103"),
            frame(HEADERS, 1, b"200"),
            frame(0, 1, b"data"),
            frame(RST_STREAM, 3, &1_u32.to_be_bytes()),
            frame(RST_STREAM, 5, &7_u32.to_be_bytes()),
            frame(RST_STREAM, 1, &0_u32.to_be_bytes()),
            frame(GOAWAY, 0, &[0; 8]),
        ]
        .concat();
        for step in 1..went.len() {
            let metrics = Arc::new(Metrics::new().unwrap());
            let mut watch = FrameWatch::new(metrics.clone());
            came.chunks(step).for_each(|bytes| watch.came(bytes));
            went.chunks(step).for_each(|bytes| watch.went(bytes));
            let told = "HTTP/2: 2 refused unread, protocol_error 1, refused_stream 1";
            assert_eq!(watch.refused(1).as_deref(), Some(told), "by {step}");
            assert_eq!(watch.refused(3), None, "all of them became requests");
            let text = metrics.render();
            assert!(text.contains("http2_errors_total{code=\"protocol_error\"} 1"), "{text}");
            watch.went(&frame(GOAWAY, 0, &[0, 0, 0, 9, 0, 0, 0, 11, 1]));
            assert!(watch.refused(3).unwrap().ends_with("enhance_your_calm 1"));
        }
    }

    #[test]
    fn streams_without_end_take_no_memory() {
        let mut watch = FrameWatch::new(Arc::new(Metrics::new().unwrap()));
        (0..10_000).for_each(|n| {
            watch.came(
                &[&[0; 24][..], &frame(HEADERS, 2 * n + 1, b"")].concat()
                    [24 * usize::from(n > 0)..],
            )
        });
        assert_eq!(watch.open.len(), OPEN_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, step in 1_usize..9) {
            let mut watch = FrameWatch::new(Arc::new(Metrics::new().unwrap()));
            for part in bytes.chunks(step) {
                watch.came(part);
                watch.went(part);
            }
        }
    }
}
