//! Whether a request head has one reading only. Two parsers that disagree about where a request
//! ends are how one client speaks for another, so whatever is ambiguous is refused.
//!
//! Judges what pingora parsed by the bytes it was parsed from; parses nothing for others.

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

/// Judge the raw head of an HTTP/1 request, from the request line to the empty line (RFC 9112).
///
/// # Errors
/// The first fault found.
pub fn judge_raw(head: &[u8]) -> Result<Body, Denial> {
    let mut lines = Lines(head);
    let version = request_line(lines.next().ok_or(Denial::FramingHead)??)?;
    let mut seen = Seen::default();
    loop {
        let line = lines.next().ok_or(Denial::FramingHead)??;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        seen.field(name, value)?;
    }
    if !lines.0.is_empty() {
        return Err(Denial::FramingHead);
    }
    seen.body(version)
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
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Denial>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|b| matches!(b, b'\r' | b'\n'));
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

/// `method SP target SP HTTP/1.x`, each space single (RFC 9112 §3).
fn request_line(line: &[u8]) -> Result<Version, Denial> {
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
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Denial::FramingHead),
    }
}

/// `name: value` with the name right before the colon; no folding (RFC 9112 §5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Denial> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Denial::FramingHead)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Denial::FramingHead)?;
    let value = value.get(1..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|b| token_byte(*b)) {
        return Err(Denial::FramingHead);
    }
    if !value.iter().all(|b| value_byte(*b)) {
        return Err(Denial::FramingHead);
    }
    Ok((name, value.trim_ascii()))
}

/// A character of a field name or method (RFC 9110 §5.6.2).
fn token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// A character of a field value (RFC 9110 §5.5): no control but the tab.
fn value_byte(b: u8) -> bool {
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
fn length(value: &[u8]) -> Result<u64, Denial> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Denial::FramingLength);
    }
    std::str::from_utf8(value).ok().and_then(|s| s.parse().ok()).ok_or(Denial::FramingLength)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(fields: &str) -> Vec<u8> {
        format!("POST /x HTTP/1.1\r\nHost: mp\r\n{fields}\r\n").into_bytes()
    }

    #[test]
    fn a_plain_head_says_what_body_follows() {
        for (fields, body) in [
            ("", Body::Empty),
            ("Content-Length: 0\r\n", Body::Empty),
            ("Content-Length: 5\r\nExpect: 100-Continue\r\n", Body::Length(5)),
            ("transfer-encoding: Chunked\r\n", Body::Chunked),
            ("X: caf\u{e9}\r\nY:\ttab\t\r\nZ:\r\n", Body::Empty),
        ] {
            assert_eq!(judge_raw(&head(fields)), Ok(body), "{fields:?}");
        }
    }

    #[test]
    fn whatever_two_parsers_could_read_in_two_ways_is_refused() {
        for (fields, denial) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Denial::FramingLengthAndCoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Denial::FramingLengthAndCoding),
            ("Transfer-Encoding: xchunked\r\n", Denial::FramingCoding),
            ("Transfer-Encoding: chunked, identity\r\n", Denial::FramingCoding),
            ("Transfer-Encoding: identity, chunked\r\n", Denial::FramingCoding),
            ("Transfer-Encoding: chunked, chunked\r\n", Denial::FramingCoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Denial::FramingCoding),
            ("Transfer-Encoding: \"chunked\"\r\n", Denial::FramingCoding),
            ("Transfer-Encoding: chunked;q=1\r\n", Denial::FramingCoding),
            ("Transfer-Encoding:\r\n", Denial::FramingCoding),
            ("Transfer-Encoding: ,\r\n", Denial::FramingCoding),
            ("Transfer_Encoding: chunked\r\n", Denial::FramingCoding),
            ("Transfer-Encoding: \x0bchunked\r\n", Denial::FramingHead),
            ("Transfer-Encoding: chunked\0\r\n", Denial::FramingHead),
            ("Content-Length: +5\r\n", Denial::FramingLength),
            ("Content-Length: -1\r\n", Denial::FramingLength),
            ("Content-Length: 0x5\r\n", Denial::FramingLength),
            ("Content-Length: 5, 6\r\n", Denial::FramingLength),
            ("Content-Length: 5, 5\r\n", Denial::FramingLength),
            ("Content-Length:\r\n", Denial::FramingLength),
            ("Content-Length: 5 5\r\n", Denial::FramingLength),
            ("Content-Length: 18446744073709551621\r\n", Denial::FramingLength),
            ("Content-Length: 0000000000000000000000000000000000000005\r\n", Denial::FramingLength),
            ("Content-Length: \u{0665}\r\n", Denial::FramingLength),
            ("Content-Length: 5_0\r\n", Denial::FramingLength),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Denial::FramingLength),
            ("Content_Length: 5\r\n", Denial::FramingLength),
            ("Expect: 100-continued\r\n", Denial::FramingHead),
            ("Expect: 100-continue\r\nExpect: 100-continue\r\n", Denial::FramingHead),
            ("Host: other\r\n", Denial::HostInvalid),
            ("X : y\r\n", Denial::FramingHead),
            ("X\t: y\r\n", Denial::FramingHead),
            (" X: y\r\n", Denial::FramingHead),
            ("A: b\r\n folded\r\n", Denial::FramingHead),
            (": y\r\n", Denial::FramingHead),
            ("no colon\r\n", Denial::FramingHead),
            ("X: a\rb\r\n", Denial::FramingHead),
            ("X: a\nY: b\r\n", Denial::FramingHead),
            ("X: a\0b\r\n", Denial::FramingHead),
            ("X\u{e9}: a\r\n", Denial::FramingHead),
        ] {
            assert_eq!(judge_raw(&head(fields)), Err(denial), "{fields:?}");
        }
    }

    #[test]
    fn the_request_line_has_one_form() {
        for line in [
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "GET / HTTP/2.0",
            "GET / HTTP/9.9",
            "GET / http/1.1",
            "get / HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET /a\x01b HTTP/1.1",
            "GET /\u{e4} HTTP/1.1",
            "GET; / HTTP/1.1",
            "GET /",
            " GET / HTTP/1.1",
            "GET / HTTP/1.1 ",
        ] {
            let head = format!("{line}\r\nHost: mp\r\n\r\n");
            assert_eq!(judge_raw(head.as_bytes()), Err(Denial::FramingHead), "{line:?}");
        }
        let fragment = b"GET /a#b HTTP/1.1\r\nHost: mp\r\n\r\n";
        assert_eq!(judge_raw(fragment), Err(Denial::PathMalformed));
        assert_eq!(judge_raw(b"CCM_POST / HTTP/1.1\r\nHost: mp\r\n\r\n"), Ok(Body::Empty));
    }

    #[test]
    fn bare_line_feeds_missing_hosts_and_http_1_0_with_a_coding_are_refused() {
        assert_eq!(judge_raw(b"GET / HTTP/1.1\nHost: mp\n\n"), Err(Denial::FramingHead));
        assert_eq!(judge_raw(b"GET / HTTP/1.1\r\n\r\n"), Err(Denial::HostInvalid));
        let old = b"POST / HTTP/1.0\r\nHost: mp\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(judge_raw(old), Err(Denial::FramingCoding));
    }

    #[test]
    fn fields_of_a_connection_have_no_place_in_http_2() {
        for (name, value) in [
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("upgrade", "h2c"),
            ("proxy-connection", "x"),
            ("te", "gzip"),
            ("content-length", "5,5"),
        ] {
            let fields = [(name, value.as_bytes())];
            assert!(judge_fields(fields.into_iter()).is_err(), "{name}");
        }
        let fields = [("te", &b"trailers"[..]), ("content-length", b"7")];
        assert_eq!(judge_fields(fields.into_iter()), Ok(Some(7)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_passes_has_no_bare_line_end(bytes: Vec<u8>) {
            if judge_raw(&bytes).is_ok() {
                prop_assert!(bytes.ends_with(b"\r\n\r\n"));
            }
        }
    }
}
