//! What the parser behind the connection would mend or overlook, judged on the bytes as they come:
//! the form of the request line and the framing of a chunked body.
//!
//! Decodes nothing, and keeps nothing but where it is and what has come too early to be judged.

use super::chunks::Chunks;

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
    /// No body: whatever comes is not HTTP.
    Foreign,
    Length(u64),
    Chunks(Chunks),
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
            None => BodyWatch::Chunks(Chunks::default()),
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
            BodyWatch::Foreign => return Ok(()),
            BodyWatch::Length(left) => {
                let skip = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= skip as u64;
                bytes.get(skip..).unwrap_or_default()
            }
            BodyWatch::Chunks(chunks) => chunks.see(bytes).map_err(|_| ())?,
        };
        self.rest.extend_from_slice(after);
        Ok(())
    }

    /// The connection leaves HTTP: nothing more is looked at, or kept.
    ///
    /// # Errors
    /// If anything has come after the request.
    pub(super) fn leave_http(&mut self) -> Result<(), ()> {
        self.body = BodyWatch::Foreign;
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(()),
        }
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
        fn no_bytes_make_it_panic(bytes: Vec<u8>, step in 1_usize..9) {
            let mut watch = HeadWatch::default();
            for part in bytes.chunks(step) {
                watch.see(part);
            }
        }
    }
}
