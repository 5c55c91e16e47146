//! A streaming decoder for chunked bodies, in either direction. It returns the data, and checks
//! that the framing has exactly one reading.
//!
//! Stores only its position.

/// The most bytes of extensions and trailers in a chunked body. They are discarded.
const IGNORED_BYTES_MAX: usize = 16 * 1024;
/// A chunk of 2^60 bytes is refused.
const SIZE_DIGITS_MAX: u32 = 15;

/// The framing of a chunked body violates RFC 9112 §7.1, or has more than one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Decodes a chunked body while it arrives (RFC 9112 §7.1). Of the optional parts, extensions and
/// trailers are accepted.
#[derive(Debug, Default)]
pub struct Chunks {
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
        at: Extension,
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

/// The position within a chunk extension (RFC 9112 §7.1.1).
#[derive(Clone, Copy, Debug)]
enum Extension {
    /// White space after a size, a name or a value; some senders pad a size with it.
    After,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    /// After a backslash within quotes.
    Escaped,
}

impl Extension {
    fn step(self, b: u8) -> Option<Self> {
        use Extension::*;
        let blank = matches!(b, b' ' | b'\t');
        Some(match (self, b) {
            (After | Name | AfterName | Value, b';') => BeforeName,
            (After | BeforeName | AfterName | BeforeValue, _) if blank => self,
            (BeforeName | Name, _) if is_token_byte(b) => Name,
            (Name, _) if blank => AfterName,
            (Name | AfterName, b'=') => BeforeValue,
            (BeforeValue, b'"') => Quoted,
            (BeforeValue | Value, _) if is_token_byte(b) => Value,
            (Value, _) if blank => After,
            (Quoted, b'"') => After,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            _ => return None,
        })
    }

    /// Checks whether the line may end here.
    fn may_end(self) -> bool {
        use Extension::*;
        matches!(self, After | Name | AfterName | Value)
    }
}

/// Checks for a character of a token (RFC 9110 §5.6.2).
pub fn is_token_byte(b: u8) -> bool {
    matches!(b,
        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z'
        | b'^'..=b'z' | b'|' | b'~')
}

impl Chunks {
    /// Returns the next piece of data in `bytes`, and advances `bytes` past it and its framing.
    /// Returns `None` once there is no more: the body has ended, or continues in bytes yet to come.
    ///
    /// # Errors
    /// If the framing has more than one reading.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        while let Some((b, rest)) = bytes.split_first() {
            if let Chunk::Data { left } = self.state {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (data, after) = bytes.split_at_checked(here).ok_or(Malformed)?;
                self.state = match left - here as u64 {
                    0 => Chunk::DataCr,
                    left => Chunk::Data { left },
                };
                *bytes = after;
                return Ok(Some(data));
            }
            if self.is_done() {
                return Ok(None);
            }
            self.state = self.step(*b).ok_or(Malformed)?;
            *bytes = rest;
        }
        Ok(None)
    }

    /// Checks whether the body has ended, including its trailers.
    pub fn is_done(&self) -> bool {
        matches!(self.state, Chunk::Done)
    }

    fn step(&mut self, b: u8) -> Option<Chunk> {
        Some(match (self.state, b) {
            (Chunk::Start, _) => Chunk::Size { digits: 1, size: hex(b)? },
            (Chunk::Size { size, .. }, b'\r') => Chunk::SizeLf { size },
            (Chunk::Size { size, .. }, b';' | b' ' | b'\t') => {
                self.ignore(b)?;
                Chunk::Extension { size, at: Extension::After.step(b)? }
            }
            (Chunk::Size { digits, size }, _) if digits < SIZE_DIGITS_MAX => {
                Chunk::Size { digits: digits + 1, size: (size << 4) | hex(b)? }
            }
            (Chunk::Extension { size, at }, b'\r') if at.may_end() => Chunk::SizeLf { size },
            (Chunk::Extension { size, at }, _) => {
                self.ignore(b)?;
                Chunk::Extension { size, at: at.step(b)? }
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

    /// Discards a byte: it must be no control character but the tab, and within the limit.
    fn ignore(&mut self, b: u8) -> Option<()> {
        self.ignored += 1;
        let plain = b == b'\t' || (b >= 0x20 && b != 0x7f);
        (plain && self.ignored <= IGNORED_BYTES_MAX).then_some(())
    }
}

fn hex(b: u8) -> Option<u64> {
    char::from(b).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks(body: &[u8], step: usize) -> Result<bool, Malformed> {
        let mut watch = Chunks::default();
        for mut part in body.chunks(step.max(1)) {
            while watch.next(&mut part)?.is_some() {}
        }
        Ok(watch.is_done())
    }

    #[test]
    fn well_formed_chunks_pass_however_they_are_cut() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5 \t\r\nhello\r\n0 \r\n\r\n",
            "5 ; a = b ;c;d=\"\\\"; =\" \r\nhello\r\n0;x\r\n\r\n",
            "A;name=\"value\"\r\n0123456789\r\n00\r\nX: y\r\nZ: w\r\n\r\nGET / HTTP/1.1\r\n",
        ] {
            for step in 1..body.len() {
                assert_eq!(chunks(body.as_bytes(), step), Ok(true), "{body:?} by {step}");
            }
        }
        assert_eq!(chunks(b"5\r\nhel", 1), Ok(false));
    }

    #[test]
    fn malformed_chunks_are_refused_at_any_split() {
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(IGNORED_BYTES_MAX + 1));
        for body in [
            "\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5 x\r\nhello\r\n0\r\n\r\n",
            "5;\r\nhello\r\n0\r\n\r\n",
            "5;=x\r\nhello\r\n0\r\n\r\n",
            "5;a=\r\nhello\r\n0\r\n\r\n",
            "5;a=b=c\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n",
            "5;a b\r\nhello\r\n0\r\n\r\n",
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
            assert_eq!(chunks(body.as_bytes(), 1), Err(Malformed), "{body:?}");
            assert_eq!(chunks(body.as_bytes(), body.len()), Err(Malformed), "{body:?}");
        }
    }

    #[test]
    fn the_data_of_all_chunks_comes_out_in_order() {
        let body = b"5;x=y\r\nhello\r\n1\r\n,\r\n00\r\nX: trailer\r\n\r\nHTTP/1.1";
        for step in 1..body.len() {
            let (mut chunks, mut data, mut after) = (Chunks::default(), Vec::new(), Vec::new());
            for mut part in body.chunks(step) {
                while let Some(piece) = chunks.next(&mut part).unwrap() {
                    data.extend_from_slice(piece);
                }
                after.extend_from_slice(part);
            }
            assert_eq!((&data[..], &after[..]), (&b"hello,"[..], &b"HTTP/1.1"[..]), "by {step}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_cuts_make_no_difference(bytes: Vec<u8>, step in 1_usize..9) {
            prop_assert_eq!(chunks(&bytes, step), chunks(&bytes, bytes.len()));
        }
    }
}
