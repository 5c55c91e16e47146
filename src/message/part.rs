//! The parts of a multipart body (RFC 2046 §5.1), in the one form that all parsers agree on.

use super::MessageFault;

const PART_BYTES_MAX: usize = 64 * 1024;
const BOUNDARY_BYTES_MAX: usize = 70;
const FIELDS_MAX: usize = 8;
const FIELD_BYTES_MAX: usize = 256;

/// The boundary that a content type names.
pub(super) fn boundary(content_type: &[u8]) -> Result<&str, MessageFault> {
    let text = std::str::from_utf8(content_type).map_err(|_| MessageFault::ContentType)?;
    let mut words = text.split(';').map(str::trim_ascii);
    let kind =
        words.next().and_then(|kind| kind.split_once('/')).ok_or(MessageFault::ContentType)?;
    if !kind.0.eq_ignore_ascii_case("multipart") || !is_token(kind.1) {
        return Err(MessageFault::ContentType);
    }
    let mut boundary = None;
    for word in words {
        let (name, value) = word.split_once('=').ok_or(MessageFault::ContentType)?;
        let value = parameter(value).filter(|_| is_token(name)).ok_or(MessageFault::ContentType)?;
        if name.eq_ignore_ascii_case("boundary") && boundary.replace(value).is_some() {
            return Err(MessageFault::ContentType);
        }
    }
    boundary.filter(|b| is_boundary(b)).ok_or(MessageFault::ContentType)
}

/// The value of a parameter without its quotes. Escapes are not accepted.
fn parameter(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(quoted) => quoted
            .strip_suffix('"')
            .filter(|v| v.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'))),
        None => Some(value).filter(|v| is_token(v)),
    }
}

/// RFC 9110 §5.6.2.
fn is_token(word: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !word.is_empty() && word.bytes().all(byte)
}

/// RFC 2046 §5.1.1, without the space.
fn is_boundary(word: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&b);
    (1..=BOUNDARY_BYTES_MAX).contains(&word.len()) && word.bytes().all(byte)
}

/// The content of the first part.
pub(super) fn first<'a>(boundary: &str, body: &'a [u8]) -> Result<&'a [u8], MessageFault> {
    let delimiter = format!("--{boundary}");
    let rest = body.strip_prefix(delimiter.as_bytes()).and_then(|rest| rest.strip_prefix(b"\r\n"));
    let (part, _) = next(rest.ok_or(MessageFault::Boundary)?, &delimiter)?;
    if part.len() > PART_BYTES_MAX {
        return Err(MessageFault::Size);
    }
    content(part)
}

/// The content of the second part. The body must end after it.
pub(super) fn second<'a>(boundary: &str, body: &'a [u8]) -> Result<&'a [u8], MessageFault> {
    let delimiter = format!("--{boundary}");
    let rest = body.strip_prefix(delimiter.as_bytes()).and_then(|rest| rest.strip_prefix(b"\r\n"));
    let (_, after) = next(rest.ok_or(MessageFault::Boundary)?, &delimiter)?;
    let (part, after) = next(after.strip_prefix(b"\r\n").ok_or(MessageFault::Part)?, &delimiter)?;
    match after {
        b"--" | b"--\r\n" => content(part),
        _ => Err(MessageFault::Part),
    }
}

/// Splits at the next delimiter: the part, and the bytes after the delimiter.
fn next<'a>(rest: &'a [u8], delimiter: &str) -> Result<(&'a [u8], &'a [u8]), MessageFault> {
    // A lax parser may end the part at any delimiter, at the start of a line or not.
    let end = find(rest, delimiter.as_bytes()).ok_or(MessageFault::Part)?;
    let (part, after) = rest.split_at_checked(end).ok_or(MessageFault::Part)?;
    let after = after.get(delimiter.len()..).unwrap_or_default();
    if !after.starts_with(b"\r\n") && !after.starts_with(b"--") {
        return Err(MessageFault::Part);
    }
    Ok((part.strip_suffix(b"\r\n").ok_or(MessageFault::Part)?, after))
}

pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The content of a part, after its header fields.
fn content(mut part: &[u8]) -> Result<&[u8], MessageFault> {
    let mut names: Vec<String> = Vec::new();
    while names.len() <= FIELDS_MAX {
        let line =
            part.get(..find(part, b"\r\n").ok_or(MessageFault::Part)?).ok_or(MessageFault::Part)?;
        part = part.get(line.len() + 2..).unwrap_or_default();
        if line.is_empty() {
            return Ok(part);
        }
        let name = field(line).ok_or(MessageFault::Part)?;
        if names.contains(&name) {
            return Err(MessageFault::Part);
        }
        names.push(name);
    }
    Err(MessageFault::Part)
}

/// The name of a field in lower case, if the field leaves the content unencoded.
fn field(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.len() <= FIELD_BYTES_MAX)?;
    let (name, value) = line.split_once(':')?;
    if !is_token(name) || !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
        return None;
    }
    let (name, value) = (name.to_ascii_lowercase(), value.trim_ascii().to_ascii_lowercase());
    let plain = match &*name {
        "content-transfer-encoding" => matches!(&*value, "7bit" | "8bit" | "binary"),
        "content-encoding" => false,
        "content-type" => !value.contains("charset") || value.contains("utf-16"),
        _ => true,
    };
    plain.then_some(name)
}
