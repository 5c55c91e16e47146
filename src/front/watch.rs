//! What the parser behind the connection would mend or overlook, judged on the bytes as they come:
//! the form of the request line and the framing of a chunked body.
//!
//! Decodes nothing, and keeps nothing but where it is and what has come too early to be judged.

/// Bytes of extensions and trailers that a chunked body may have in all: nobody reads them.
const IGNORED_BYTES_MAX: usize = 16 * 1024;
/// A chunk of 2^60 bytes is none.
const SIZE_DIGITS_MAX: u32 = 15;

/// The request head while it arrives: is its first line three words of printable ASCII, and where
/// does it end?
#[derive(Debug, Default)]
struct HeadWatch {
    spaces: u8,
    odd: bool,
    past_line: bool,
    /// The last four bytes.
    tail: u32,
    begun: bool,
    ended: bool,
}

const HEAD_END: u32 = u32::from_be_bytes(*b"\r\n\r\n");

impl HeadWatch {
    /// Look at the next bytes. Returns what follows the head once it has ended.
    fn see<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.begun |= !bytes.is_empty();
        for (at, b) in bytes.iter().enumerate() {
            if self.ended {
                return bytes.get(at..).unwrap_or_default();
            }
            self.tail = (self.tail << 8) | u32::from(*b);
            self.ended = self.tail == HEAD_END;
            if !self.past_line {
                match b {
                    b'\n' => self.past_line = true,
                    b'\r' => {}
                    b' ' => self.spaces = self.spaces.saturating_add(1),
                    0x21..0x7f => {}
                    _ => self.odd = true,
                }
            }
        }
        &[]
    }

    /// Whether the request line is there and has another form.
    fn is_odd(&self) -> bool {
        self.past_line && (self.odd || self.spaces != 2)
    }
}

/// A chunked body while it arrives (RFC 9112 §7.1), with nothing optional in it but extensions and
/// trailers.
#[derive(Debug, Default)]
struct ChunkWatch {
    state: Chunk,
    ignored: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Chunk {
    #[default]
    Start,
    Size {
        digits: u32,
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailer {
        line_empty: bool,
    },
    TrailerLf {
        line_empty: bool,
    },
    Done,
}

impl ChunkWatch {
    /// Look at the next bytes. Returns what follows the body once it has ended.
    ///
    /// # Errors
    /// Where the framing has more than one reading.
    fn see<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], ()> {
        while let Some((b, rest)) = bytes.split_first() {
            if let Chunk::Data { left } = self.state {
                let skip = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(skip..).unwrap_or_default();
                self.state = match left - skip as u64 {
                    0 => Chunk::DataCr,
                    left => Chunk::Data { left },
                };
                continue;
            }
            if matches!(self.state, Chunk::Done) {
                return Ok(bytes);
            }
            self.state = self.step(*b).ok_or(())?;
            bytes = rest;
        }
        Ok(&[])
    }

    fn step(&mut self, b: u8) -> Option<Chunk> {
        Some(match (self.state, b) {
            (Chunk::Start, _) => Chunk::Size { digits: 1, size: hex(b)? },
            (Chunk::Size { size, .. }, b'\r') => Chunk::SizeLf { size },
            (Chunk::Size { size, .. }, b';') => Chunk::Extension { size },
            (Chunk::Size { digits, size }, _) if digits < SIZE_DIGITS_MAX => {
                Chunk::Size { digits: digits + 1, size: (size << 4) | hex(b)? }
            }
            (Chunk::Extension { size }, b'\r') => Chunk::SizeLf { size },
            (Chunk::Extension { size }, _) => {
                self.ignore(b)?;
                Chunk::Extension { size }
            }
            (Chunk::SizeLf { size: 0 }, b'\n') => Chunk::Trailer { line_empty: true },
            (Chunk::SizeLf { size }, b'\n') => Chunk::Data { left: size },
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::Start,
            (Chunk::Trailer { line_empty }, b'\r') => Chunk::TrailerLf { line_empty },
            (Chunk::Trailer { .. }, _) => {
                self.ignore(b)?;
                Chunk::Trailer { line_empty: false }
            }
            (Chunk::TrailerLf { line_empty: true }, b'\n') => Chunk::Done,
            (Chunk::TrailerLf { line_empty: false }, b'\n') => Chunk::Trailer { line_empty: true },
            _ => return None,
        })
    }

    /// A byte that is thrown away: no control character but the tab, and not too many.
    fn ignore(&mut self, b: u8) -> Option<()> {
        self.ignored += 1;
        let plain = b == b'\t' || (b >= 0x20 && b != 0x7f);
        (plain && self.ignored <= IGNORED_BYTES_MAX).then_some(())
    }
}

fn hex(b: u8) -> Option<u64> {
    char::from(b).to_digit(16).map(u64::from)
}

/// The requests of a connection one after another. One read may hold the end of one and the
/// beginning of the next, so what follows a request is kept until its framing is known.
#[derive(Debug, Default)]
pub(super) struct RequestWatch {
    head: HeadWatch,
    body: BodyWatch,
    /// What came after what was looked at. The parser behind reads no further than one buffer
    /// ahead.
    rest: Vec<u8>,
}

#[derive(Debug, Default)]
enum BodyWatch {
    #[default]
    Unknown,
    Length(u64),
    Chunks(ChunkWatch),
}

impl RequestWatch {
    /// Bytes came in which a head begins or goes on.
    pub(super) fn see_head(&mut self, bytes: &[u8]) {
        let after = self.head.see(bytes);
        self.rest.extend_from_slice(after);
    }

    /// The head was read, and a body of this form follows: `None` is a chunked one.
    ///
    /// # Errors
    /// If what has come of it is not well-formed.
    pub(super) fn expect_body(&mut self, length: Option<u64>) -> Result<(), ()> {
        self.body = match length {
            Some(length) => BodyWatch::Length(length),
            None => BodyWatch::Chunks(ChunkWatch::default()),
        };
        let came = std::mem::take(&mut self.rest);
        self.see_body(&came)
    }

    /// Bytes came after a head.
    ///
    /// # Errors
    /// If they are a body's, and not well-formed.
    pub(super) fn see_body(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let after = match &mut self.body {
            BodyWatch::Unknown => bytes,
            BodyWatch::Length(left) => {
                let skip = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= skip as u64;
                bytes.get(skip..).unwrap_or_default()
            }
            BodyWatch::Chunks(chunks) => chunks.see(bytes)?,
        };
        self.rest.extend_from_slice(after);
        Ok(())
    }

    /// The request is over: what follows it begins the next. Returns whether a part of that one's
    /// head has come already, and not all of it.
    pub(super) fn next(&mut self) -> bool {
        let came = std::mem::take(self).rest;
        self.see_head(&came);
        self.head.begun && !self.head.ended
    }

    /// Whether the request line is there and has another form than three words.
    pub(super) fn is_odd(&self) -> bool {
        self.head.is_odd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks(body: &[u8], step: usize) -> Result<bool, ()> {
        let mut watch = ChunkWatch::default();
        for part in body.chunks(step.max(1)) {
            watch.see(part)?;
        }
        Ok(matches!(watch.state, Chunk::Done))
    }

    #[test]
    fn well_formed_chunks_pass_however_they_are_cut() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "A;name=\"value\"\r\n0123456789\r\n00\r\nX: y\r\nZ: w\r\n\r\nGET / HTTP/1.1\r\n",
        ] {
            for step in 1..body.len() {
                assert_eq!(chunks(body.as_bytes(), step), Ok(true), "{body:?} by {step}");
            }
        }
        assert_eq!(chunks(b"5\r\nhel", 1), Ok(false));
    }

    #[test]
    fn whatever_else_a_lenient_parser_would_take_is_refused() {
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(IGNORED_BYTES_MAX + 1));
        for body in [
            "\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5_0\r\nhello\r\n0\r\n\r\n",
            "5\nhello\n0\n\n",
            "5\rXhello\r\n0\r\n\r\n",
            "5\r\nhelloX0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "2;\nxx\r\nhe\r\n0\r\n\r\n",
            "5;a=\0b\r\nhello\r\n0\r\n\r\n",
            "g\r\nhello\r\n0\r\n\r\n",
            "0000000000000005\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffff\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX: \0\r\n\r\n",
            &long,
        ] {
            assert_eq!(chunks(body.as_bytes(), 1), Err(()), "{body:?}");
            assert_eq!(chunks(body.as_bytes(), body.len()), Err(()), "{body:?}");
        }
    }

    #[test]
    fn a_head_ends_where_it_ends_and_its_line_has_one_form() {
        for (text, odd, rest) in [
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nbody", false, "body"),
            ("GET  / HTTP/1.1\r\n\r\n", true, ""),
            ("GET /a b HTTP/1.1\r\n\r\n", true, ""),
            ("GET /\x01 HTTP/1.1\r\n\r\n", true, ""),
            ("GET /", false, ""),
        ] {
            let mut watch = HeadWatch::default();
            assert_eq!(watch.see(text.as_bytes()), rest.as_bytes(), "{text:?}");
            assert_eq!(watch.is_odd(), odd, "{text:?}");
        }
    }

    #[test]
    fn requests_that_share_their_reads_are_told_apart_wherever_these_are_cut() {
        let (get, line) = ("GET / HTTP/1.1\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n");
        let (good, bad) = ("5\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n");
        // Each request by its head, its body, and its body's length unless that is chunked.
        let first = [(get, "hello", Some(5)), (get, "", Some(0)), (get, good, None)];
        for (head, body, length) in first {
            for (next, chunks, well) in [(get, good, true), (get, bad, false), (line, good, true)] {
                let all = [head, body, next, chunks].concat();
                for cut in head.len()..=all.len() {
                    let (one, two) = all.split_at(cut);
                    let mut watch = RequestWatch::default();
                    watch.see_head(one.as_bytes());
                    watch.expect_body(length).unwrap();
                    // The rest comes with this body, while its answer is on its way, or after it.
                    let waits = cut >= head.len() + body.len();
                    if !waits {
                        watch.see_body(two.as_bytes()).unwrap();
                    }
                    watch.next();
                    let head_is_there = !waits || cut >= all.len() - chunks.len();
                    if waits && !head_is_there {
                        watch.see_head(two.as_bytes());
                    }
                    assert_eq!(watch.is_odd(), next == line, "{all:?} at {cut}");
                    let mut judged = watch.expect_body(None);
                    if waits && head_is_there {
                        judged = judged.and_then(|()| watch.see_body(two.as_bytes()));
                    }
                    assert_eq!(judged.is_ok(), well, "{all:?} at {cut}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_either_panic_and_cuts_make_no_difference(bytes: Vec<u8>, step in 1_usize..9) {
            prop_assert_eq!(chunks(&bytes, step), chunks(&bytes, bytes.len()));
            let mut watch = HeadWatch::default();
            for part in bytes.chunks(step) {
                watch.see(part);
            }
        }
    }
}
