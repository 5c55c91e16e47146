//! Whether a request head has one reading only. Two parsers that disagree about where a request
//! ends are how one client speaks for another, so whatever is ambiguous is refused.
//!
//! Judges what pingora parsed by the bytes it was parsed from; parses nothing for others.

use super::headers::names;
use crate::denial::Denial;

/// What a head says about the body that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None.
    Empty,
    /// That many bytes, at least one.
    Length(u64),
    /// Chunked, of unknown length.
    Chunked,
}

/// A head of HTTP/1 that has one reading.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method, without a lower-case letter.
    pub method: &'a str,
    /// The target: visible ASCII, and at least one character of it.
    pub target: &'a [u8],
    /// Whether it is of HTTP/1.0.
    pub http10: bool,
    /// What follows it.
    pub body: Body,
    /// The fields in their order, without the white space around their values.
    pub fields: Vec<(&'a str, &'a [u8])>,
}

/// Read the head of an HTTP/1 request, from the request line to the empty line (RFC 9112).
///
/// # Errors
/// The first fault found.
pub fn parse(head: &[u8]) -> Result<RequestHead<'_>, Denial> {
    let mut fields = Vec::with_capacity(24);
    let (line, body) = walk(head, |name, value| fields.push((name, value)))?;
    let http10 = line.version == Version::Http10;
    Ok(RequestHead { method: line.method, target: line.target, http10, body, fields })
}

/// Judge the raw head of an HTTP/1 request that another parser has read.
///
/// # Errors
/// The first fault found.
pub fn judge_raw(head: &[u8]) -> Result<Body, Denial> {
    walk(head, |_, _| ()).map(|(_, body)| body)
}

fn walk<'a>(
    head: &'a [u8],
    mut each: impl FnMut(&'a str, &'a [u8]),
) -> Result<(RequestLine<'a>, Body), Denial> {
    let mut lines = Lines(head);
    let line = request_line(lines.next().ok_or(Denial::FramingHead)??)?;
    let mut seen = Seen::default();
    loop {
        let line = lines.next().ok_or(Denial::FramingHead)??;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        seen.field(name.as_bytes(), value)?;
        each(name, value);
    }
    if !lines.0.is_empty() {
        return Err(Denial::FramingHead);
    }
    let body = seen.body(line.version)?;
    Ok((line, body))
}

/// Judge the fields of a request whose framing is not textual (HTTP/2): what would change the
/// framing of the HTTP/1 request made from them. RFC 9113 §8.2.2.
///
/// # Errors
/// The first fault found.
pub fn judge_fields<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<Option<u64>, Denial> {
    let mut seen = Seen::default();
    for (name, value) in fields {
        if !value.iter().all(|b| value_byte(*b)) || !name.bytes().all(token_byte) {
            return Err(Denial::FramingHead);
        }
        let connection = ["connection", "keep-alive", "proxy-connection", "upgrade"];
        if connection.iter().any(|c| name.eq_ignore_ascii_case(c)) {
            return Err(Denial::FramingHead);
        }
        if name.eq_ignore_ascii_case("te") && !value.eq_ignore_ascii_case(b"trailers") {
            return Err(Denial::FramingHead);
        }
        seen.field(name.as_bytes(), value)?;
    }
    if seen.coding.is_some() {
        return Err(Denial::FramingCoding);
    }
    Ok(seen.length)
}

/// Lines ended by CR LF. A line feed without its carriage return, or the reverse, is an error.
pub(super) struct Lines<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Denial>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let end = memchr::memchr2(b'\r', b'\n', self.0);
        Some(match end.and_then(|end| self.0.split_at_checked(end)) {
            Some((line, [b'\r', b'\n', rest @ ..])) => {
                self.0 = rest;
                Ok(line)
            }
            _ => Err(Denial::FramingHead),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Where a head ends, found while it arrives.
#[derive(Debug, Default)]
pub struct HeadEnd {
    /// Where the line begins that has not ended yet.
    line: usize,
    seen: usize,
}

impl HeadEnd {
    /// Look at all that has come so far: the length of the head, once it is whole. A line feed
    /// alone ends no line, and no head that has one will ever be whole.
    ///
    /// # Errors
    /// At such a line feed.
    pub fn find(&mut self, head: &[u8]) -> Result<Option<usize>, Denial> {
        while let Some(rest) = head.get(self.seen..).filter(|rest| !rest.is_empty()) {
            let Some(at) = memchr::memchr(b'\n', rest) else {
                self.seen = head.len();
                break;
            };
            let feed = self.seen + at;
            let line = head.get(self.line..feed).unwrap_or_default();
            if line.last() != Some(&b'\r') {
                return Err(Denial::FramingHead);
            }
            self.seen = feed + 1;
            self.line = self.seen;
            if line.len() == 1 {
                return Ok(Some(self.seen));
            }
        }
        Ok(None)
    }
}

struct RequestLine<'a> {
    method: &'a str,
    target: &'a [u8],
    version: Version,
}

/// `method SP target SP HTTP/1.x`, each space single (RFC 9112 §3).
fn request_line(line: &[u8]) -> Result<RequestLine<'_>, Denial> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Denial::FramingHead);
    };
    // Methods are case-sensitive, and no method of a site system has a lower-case letter: what has
    // one may be meant to be read as another by a laxer backend.
    let plain = |b: &u8| token_byte(*b) && !b.is_ascii_lowercase();
    if method.is_empty() || !method.iter().all(plain) || target.is_empty() {
        return Err(Denial::FramingHead);
    }
    if !target.iter().all(|b| (0x21..0x7f).contains(b)) {
        return Err(Denial::FramingHead);
    }
    if target.contains(&b'#') {
        // The parser would cut the fragment off, and others would not.
        return Err(Denial::PathMalformed);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(Denial::FramingHead),
    };
    let method = std::str::from_utf8(method).map_err(|_| Denial::FramingHead)?;
    Ok(RequestLine { method, target, version })
}

/// `name: value` with the name right before the colon; no folding (RFC 9112 §5).
pub(super) fn field(line: &[u8]) -> Result<(&str, &[u8]), Denial> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Denial::FramingHead)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Denial::FramingHead)?;
    let value = value.get(1..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|b| token_byte(*b)) {
        return Err(Denial::FramingHead);
    }
    if !value.iter().all(|b| value_byte(*b)) {
        return Err(Denial::FramingHead);
    }
    let name = std::str::from_utf8(name).map_err(|_| Denial::FramingHead)?;
    Ok((name, value.trim_ascii()))
}

/// A character of a field name or method (RFC 9110 §5.6.2).
fn token_byte(b: u8) -> bool {
    matches!(b,
        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z'
        | b'^'..=b'z' | b'|' | b'~')
}

/// A character of a field value (RFC 9110 §5.5): no control but the tab.
pub(super) fn value_byte(b: u8) -> bool {
    b == b'\t' || (b >= 0x20 && b != 0x7f)
}

/// The fields that decide framing.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    coding: Option<()>,
    host: bool,
    expect: bool,
}

impl Seen {
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Denial> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => once(&mut self.host, Denial::HostInvalid),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                once(&mut self.expect, Denial::FramingHead)?;
                match value.eq_ignore_ascii_case(b"100-continue") {
                    true => Ok(()),
                    false => Err(Denial::FramingHead),
                }
            }
            // Gone on the way as fields of the connection, they would leave a request without its
            // length, or without its host, to the backend.
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let framing = ["content-length", "transfer-encoding", "host"];
                match framing.iter().any(|framing| names(value, framing)) {
                    true => Err(Denial::FramingHead),
                    false => Ok(()),
                }
            }
            14 if same(name, b"content-length") => {
                if name.contains(&b'_') || self.length.is_some() {
                    return Err(Denial::FramingLength);
                }
                self.length = Some(length(value)?);
                Ok(())
            }
            17 if same(name, b"transfer-encoding") => {
                if name.contains(&b'_')
                    || self.coding.is_some()
                    || !value.eq_ignore_ascii_case(b"chunked")
                {
                    return Err(Denial::FramingCoding);
                }
                self.coding = Some(());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn body(self, version: Version) -> Result<Body, Denial> {
        if !self.host {
            return Err(Denial::HostInvalid);
        }
        match (self.length, self.coding) {
            (Some(_), Some(())) => Err(Denial::FramingLengthAndCoding),
            (None, Some(())) if version == Version::Http10 => Err(Denial::FramingCoding),
            (None, Some(())) => Ok(Body::Chunked),
            (Some(0) | None, None) => Ok(Body::Empty),
            (Some(n), None) => Ok(Body::Length(n)),
        }
    }
}

fn once(seen: &mut bool, again: Denial) -> Result<(), Denial> {
    match std::mem::replace(seen, true) {
        true => Err(again),
        false => Ok(()),
    }
}

/// Whether two field names are one to a backend that maps `-` and `_` to the same variable.
fn same(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name.iter().zip(wanted).all(|(a, b)| match a {
            b'_' => *b == b'-',
            a => a.eq_ignore_ascii_case(b),
        })
}

/// Digits, and no more of them than a length can have (RFC 9110 §8.6).
pub(super) fn length(value: &[u8]) -> Result<u64, Denial> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Denial::FramingLength);
    }
    std::str::from_utf8(value).ok().and_then(|s| s.parse().ok()).ok_or(Denial::FramingLength)
}

#[cfg(test)]
mod tests;
