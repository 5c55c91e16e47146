//! Request smuggling defense: checks that a request head has exactly one reading. If two parsers
//! disagree about the end of a request, one client can speak for another. Ambiguous heads are
//! refused.
//!
//! Knows no connection.

use super::headers::names;
use super::target::origin_form;
use crate::denial::Denial;
use crate::front::is_token_byte;

/// The body that a head announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// No body.
    Empty,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunked, of unknown length.
    Chunked,
}

/// A request head with exactly one reading.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method, without a lower-case letter.
    pub method: &'a str,
    /// The target: one or more visible ASCII characters.
    pub target: &'a [u8],
    /// The HTTP version.
    pub version: Version,
    /// The body that follows.
    pub body: Body,
    /// The fields in order. Their values have no surrounding white space.
    pub fields: Vec<(&'a str, &'a [u8])>,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 1945.
    Http10,
    /// RFC 9112.
    Http11,
    /// RFC 9113.
    Http2,
}

impl Version {
    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

impl<'a> RequestHead<'a> {
    /// Returns the value of a field that occurs at most once.
    pub fn field(&self, wanted: &str) -> Option<&'a [u8]> {
        let mut fields = self.fields.iter();
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
    }

    /// Converts an absolute target to origin form, if it names this host and scheme. Any other
    /// target stays, and [`RequestHead::judge`] refuses it.
    pub fn in_origin_form(self, clear: bool) -> Self {
        match origin_form(self.target, self.field("host").unwrap_or_default(), clear) {
            Ok(target) => RequestHead { target, ..self },
            Err(_) => self,
        }
    }

    /// Returns its length in HTTP/1 form.
    pub fn bytes(&self) -> usize {
        let fields = self.fields.iter().map(|(name, value)| name.len() + value.len() + 4);
        self.method.len() + self.target.len() + fields.sum::<usize>()
    }

    /// Judges a head that will be forwarded as HTTP/1: it must have one reading there, and at most
    /// this many fields and bytes.
    ///
    /// # Errors
    /// The first fault found.
    pub fn judge(&self, fields_max: usize, bytes_max: usize, clear: bool) -> Result<(), Denial> {
        // RFC 9113 defines the form of all other parts, and has no absolute target.
        if self.version != Version::Http2 {
            origin_form(self.target, self.field("host").unwrap_or_default(), clear)?;
        } else {
            judge_method(self.method.as_bytes())?;
            judge_target(self.target)?;
            judge_fields(self.fields.iter().copied())?;
        }
        if matches!(self.method, "CONNECT" | "TRACE") {
            return Err(Denial::FramingMethod);
        }
        if self.fields.len() > fields_max || self.bytes() > bytes_max {
            Err(Denial::LimitHead)
        } else {
            Ok(())
        }
    }
}

/// Reads the head of an HTTP/1 request, from the request line to the empty line (RFC 9112).
///
/// # Errors
/// The first fault found.
pub fn parse(head: &[u8]) -> Result<RequestHead<'_>, Denial> {
    let mut fields = Vec::with_capacity(24);
    let mut lines = Lines(head);
    let line = request_line(lines.next().ok_or(Denial::FramingHead)??)?;
    let mut seen = SeenFields::default();
    loop {
        let line = lines.next().ok_or(Denial::FramingHead)??;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        seen.field(name.as_bytes(), value)?;
        fields.push((name, value));
    }
    if !lines.0.is_empty() {
        return Err(Denial::FramingHead);
    }
    let RequestLine { method, target, version } = line;
    Ok(RequestHead { method, target, version, body: seen.body(version)?, fields })
}

/// Returns the body that the head of an HTTP/1 request announces.
///
/// # Errors
/// The first fault found.
pub fn judge_raw(head: &[u8]) -> Result<Body, Denial> {
    parse(head).map(|head| head.body)
}

/// Judges the fields of an HTTP/2 request, whose framing is binary: refuses fields that would
/// change the framing of the HTTP/1 request made from them. RFC 9113 §8.2.2.
///
/// # Errors
/// The first fault found.
fn judge_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<(), Denial> {
    let mut seen = SeenFields::default();
    for (name, value) in fields {
        if !value.iter().all(|b| value_byte(*b)) || !name.bytes().all(is_token_byte) {
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
    match (seen.coding, seen.host) {
        (Some(()), _) => Err(Denial::FramingCoding),
        (None, false) => Err(Denial::HostInvalid),
        (None, true) => Ok(()),
    }
}

/// Lines that end with CR LF. A bare CR or LF is an error.
pub(in crate::gateway) struct Lines<'a>(pub(in crate::gateway) &'a [u8]);

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

/// Finds the end of a head while it arrives.
#[derive(Debug, Default)]
pub struct HeadEnd {
    /// The start of the unfinished line.
    line: usize,
    seen: usize,
}

impl HeadEnd {
    /// Searches all bytes received so far. Returns the length of the head once it is complete. A
    /// bare LF ends no line, and a head with one is never complete.
    ///
    /// # Errors
    /// A bare LF.
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

/// Parses `method SP target SP HTTP/1.x`, each space single (RFC 9112 §3).
fn request_line(line: &[u8]) -> Result<RequestLine<'_>, Denial> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Denial::FramingHead);
    };
    judge_method(method)?;
    judge_target(target)?;
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(Denial::FramingHead),
    };
    let method = std::str::from_utf8(method).map_err(|_| Denial::FramingHead)?;
    Ok(RequestLine { method, target, version })
}

/// Methods are case-sensitive, and no method of a site system has a lower-case letter. A laxer
/// backend may read a method with one as another.
fn judge_method(method: &[u8]) -> Result<(), Denial> {
    let plain = |b: &u8| is_token_byte(*b) && !b.is_ascii_lowercase();
    if !method.is_empty() && method.iter().all(plain) { Ok(()) } else { Err(Denial::FramingHead) }
}

fn judge_target(target: &[u8]) -> Result<(), Denial> {
    if target.is_empty() || !target.iter().all(|b| (0x21..0x7f).contains(b)) {
        return Err(Denial::FramingHead);
    }
    // Some parsers cut off a fragment, and others do not.
    if target.contains(&b'#') { Err(Denial::PathMalformed) } else { Ok(()) }
}

/// Parses `name: value`, with no space before the colon and no folding (RFC 9112 §5).
pub(in crate::gateway) fn field(line: &[u8]) -> Result<(&str, &[u8]), Denial> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Denial::FramingHead)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Denial::FramingHead)?;
    let value = value.get(1..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|b| is_token_byte(*b)) {
        return Err(Denial::FramingHead);
    }
    if !value.iter().all(|b| value_byte(*b)) {
        return Err(Denial::FramingHead);
    }
    let name = std::str::from_utf8(name).map_err(|_| Denial::FramingHead)?;
    Ok((name, value.trim_ascii()))
}

/// Checks for a character of a field value (RFC 9110 §5.5): no control character but the tab.
pub(in crate::gateway) fn value_byte(b: u8) -> bool {
    b == b'\t' || (b >= 0x20 && b != 0x7f)
}

/// The fields that decide framing.
#[derive(Default)]
struct SeenFields {
    length: Option<u64>,
    coding: Option<()>,
    host: bool,
    expect: bool,
}

impl SeenFields {
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Denial> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => once(&mut self.host, Denial::HostInvalid),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                once(&mut self.expect, Denial::FramingHead)?;
                if value.eq_ignore_ascii_case(b"100-continue") {
                    Ok(())
                } else {
                    Err(Denial::FramingExpectation)
                }
            }
            // Removed as connection fields, they would leave the backend a request without its
            // length or without its host.
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let framing = ["content-length", "transfer-encoding", "host"];
                if framing.iter().any(|framing| names(value, framing)) {
                    Err(Denial::FramingHead)
                } else {
                    Ok(())
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
    if std::mem::replace(seen, true) { Err(again) } else { Ok(()) }
}

/// Checks whether a backend that maps `-` and `_` to the same variable reads two field names as
/// one.
fn same(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name.iter().zip(wanted).all(|(a, b)| match a {
            b'_' => *b == b'-',
            a => a.eq_ignore_ascii_case(b),
        })
}

/// Parses a length: digits only, and at most 19 (RFC 9110 §8.6).
pub(in crate::gateway) fn length(value: &[u8]) -> Result<u64, Denial> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Denial::FramingLength);
    }
    std::str::from_utf8(value).ok().and_then(|s| s.parse().ok()).ok_or(Denial::FramingLength)
}

#[cfg(test)]
mod tests;
