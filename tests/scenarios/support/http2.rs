//! HTTP/2 frame by frame, to send what no proper client would: without indexing or compression, and
//! without automatic reactions.

use std::io::Read;

use super::{Gateway, Wire, client_config};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITY_FIELDS: u8 = 0x20;

/// An HTTP/2 connection with its preface sent.
pub struct Http2(pub Wire);

/// A received frame.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The response to a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Got {
    /// 0 if there was no response.
    pub status: u16,
    pub body: Vec<u8>,
    /// Whether the response ended correctly.
    pub whole: bool,
    /// The response's fields as text if possible, or the raw header block.
    pub head: Vec<u8>,
}

/// Builds a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Encodes fields as literals that are never indexed (RFC 7541 §6.2.3).
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x10);
        text(&mut out, name.as_ref());
        text(&mut out, value.as_ref());
    }
    out
}

/// Encodes a string with its length (RFC 7541 §5).
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes.len();
    if rest < 127 {
        out.push(rest as u8);
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend(bytes);
}

/// Encodes an ordinary request, followed by more fields.
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own =
        [(":method", method), (":scheme", "https"), (":authority", Gateway::HOST), (":path", path)];
    block(&[&own[..], more].concat())
}

impl Http2 {
    pub fn open(gateway: &Gateway) -> Http2 {
        let mut config = client_config(gateway);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut wire = Wire::open(config, gateway.port, Gateway::HOST).unwrap();
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut http2 = Http2(wire);
        // No dynamic table: each header block can be decoded by itself.
        http2.send(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        http2
    }

    /// Waits until the gateway has widened the window of the connection, which begins with 65,535
    /// bytes (RFC 9113 §6.9.2).
    pub fn await_window(&mut self) {
        while self.next().expect("the connection is open").kind != WINDOW_UPDATE {}
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.send(&frame(kind, flags, stream, payload));
    }

    /// Sends a complete request without a body.
    pub fn ask(&mut self, stream: u32, block: &[u8]) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, block);
    }

    /// Returns the next frame, or `None` once the connection has ended.
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.0.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nothing came for 20 s")
            }
            Err(_) => return None,
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads until a stream has ended.
    pub fn outcome(&mut self, stream: u32) -> Got {
        let mut got = Got::default();
        while let Some(frame) = self.next() {
            match frame.kind {
                GOAWAY if frame.payload.get(4..8) != Some(&[0; 4]) => return got,
                RST_STREAM if frame.stream == stream => return got,
                HEADERS if frame.stream == stream && got.status < 200 => {
                    got.status = status(&frame.payload);
                    got.head = frame.payload;
                }
                DATA if frame.stream == stream => got.body.extend(&frame.payload),
                _ => {}
            }
            let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
            if ends && frame.stream == stream {
                got.whole = true;
                return got;
            }
        }
        got
    }
}

/// Decodes the status at the start of a response's header block: indexed in the static table, or
/// three digits.
pub fn status(block: &[u8]) -> u16 {
    let at = block.iter().position(|b| b & 0xe0 != 0x20).unwrap_or(0);
    let known = [200, 204, 206, 304, 400, 404, 500];
    match &block[at..] {
        [index @ 0x88..=0x8e, ..] => known[usize::from(index - 0x88)],
        [_, 3, digits @ ..] => String::from_utf8_lossy(&digits[..3]).parse().unwrap(),
        [_, _, coded @ ..] => {
            // Huffman-coded digits: five bits up to 2, six from 3 on (RFC 7541, appendix B).
            let bits: Vec<u8> =
                coded.iter().take(3).flat_map(|b| (0..8).rev().map(move |n| b >> n & 1)).collect();
            let (mut rest, mut status) = (&bits[..], 0);
            for _ in 0..3 {
                let number =
                    |n: usize| rest[..n].iter().fold(0_u16, |all, bit| all * 2 + u16::from(*bit));
                let (digit, used) = match number(5) {
                    short @ 0..=2 => (short, 5),
                    _ => (number(6) - 22, 6),
                };
                status = status * 10 + digit;
                rest = &rest[used..];
            }
            status
        }
        _ => 0,
    }
}
