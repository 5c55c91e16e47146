//! An answer's head as the backend sent it, and as the client gets it.

use super::answer_fault::{AnswerFault, What};
use super::request::put;
use crate::front::Chunks;
use crate::gateway::framing::{HeadEnd, Lines, field, length, value_byte};
use crate::gateway::headers;
use crate::gateway::reply::Reply;

/// An answer's head and fields are small; what is larger is none.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 256;

/// What follows an answer's head.
#[derive(Debug)]
pub(in crate::gateway) enum Rest {
    /// That many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// Everything until the backend closes.
    UntilClose,
}

/// An answer's head.
#[derive(Debug)]
pub(in crate::gateway) struct Head {
    /// Its status; below 200 for an interim answer.
    pub(in crate::gateway) status: u16,
    /// Its own length.
    pub(in crate::gateway) length: usize,
    /// What follows it.
    pub(in crate::gateway) rest: Rest,
    /// Whether the backend's connection can be used again.
    pub(in crate::gateway) keep: bool,
}

/// The head at the beginning of `bytes`, or `None` while it is not whole. What the client gets of it
/// is written to `out`, `close` telling it whether its connection ends.
///
/// # Errors
/// If it has more than one reading, is too large, or leaves HTTP, which nobody asked for.
pub(in crate::gateway) fn read(
    bytes: &[u8],
    bodiless: bool,
    close: bool,
    out: &mut Vec<u8>,
) -> Result<Option<Head>, AnswerFault> {
    match read_switching(bytes, bodiless, close, out)? {
        Some(Head { status: 101, .. }) => Err(AnswerFault::in_line(What::Switch, 1)),
        read => Ok(read),
    }
}

/// As [`read`], for an answer to who asked to leave HTTP.
///
/// # Errors
/// If it has more than one reading, or is too large.
pub(in crate::gateway) fn read_switching(
    bytes: &[u8],
    bodiless: bool,
    close: bool,
    out: &mut Vec<u8>,
) -> Result<Option<Head>, AnswerFault> {
    let too_large = AnswerFault::in_head(What::HeadTooLarge);
    let found = HeadEnd::default().find(bytes);
    let Some(end) = found.map_err(|_| AnswerFault::in_head(What::LineEnd))? else {
        return if bytes.len() < HEAD_BYTES_MAX { Ok(None) } else { Err(too_large) };
    };
    if end > HEAD_BYTES_MAX {
        return Err(too_large);
    }
    let mut lines = Lines(bytes.get(..end).unwrap_or_default());
    let mut number = 0;
    let mut next = || {
        number += 1;
        match lines.next() {
            Some(Ok(line)) => Ok((line, number)),
            _ => Err(AnswerFault::in_line(What::LineEnd, number)),
        }
    };
    let (line, first) = next()?;
    let no_status = AnswerFault::in_line(What::StatusLine, first);
    let (http10, status, reason) = status_line(line).ok_or(no_status)?;
    let mut fields: Vec<(&str, &[u8])> = Vec::with_capacity(16);
    let mut framing = Framing::default();
    loop {
        let (line, number) = next()?;
        if line.is_empty() {
            break;
        }
        if fields.len() == FIELDS_MAX {
            return Err(AnswerFault::in_head(What::TooManyFields));
        }
        let fault = |what| AnswerFault::in_line(what, number);
        let (name, value) = field(line).map_err(|_| fault(What::Field))?;
        framing.see(name, value).map_err(fault)?;
        fields.push((name, value));
    }
    let empty = bodiless || status < 200 || matches!(status, 204 | 304);
    let rest = framing.rest(http10, empty).map_err(AnswerFault::in_head)?;
    let nominated = || named(&fields, "connection");
    let keep = !http10
        && !matches!(rest, Rest::UntilClose)
        && !nominated().any(|value| headers::names(value, "close"));
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(line.get(9..12).unwrap_or_default());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
    for (name, value) in &fields {
        let ours = match name.len() {
            14 => name.eq_ignore_ascii_case("content-length") && (status < 200 || status == 204),
            16 => {
                name.eq_ignore_ascii_case("www-authenticate") && headers::windows_challenge(value)
            }
            17 => name.eq_ignore_ascii_case("transfer-encoding"),
            _ => false,
        };
        if !ours && headers::response_passes(name, nominated()) {
            put(out, name, value);
        }
    }
    // To a client of HTTP/1.1 whatever has no length is chunked.
    if matches!(rest, Rest::Chunked(_) | Rest::UntilClose) || (bodiless && framing.chunked) {
        put(out, "Transfer-Encoding", b"chunked");
    }
    if close && status >= 200 {
        put(out, "Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    Ok(Some(Head { status, length: end, rest, keep }))
}

/// Write another Date into a head that ends `out` and begins at `begin`.
pub(super) fn date(out: &mut Vec<u8>, begin: usize, date: &str) {
    let head = out.split_off(begin.min(out.len()));
    for line in head.split_inclusive(|b| *b == b'\n') {
        let is_date =
            line.split(|b| *b == b':').next().is_some_and(|n| n.eq_ignore_ascii_case(b"date"));
        if line == b"\r\n" {
            put(out, "Date", date.as_bytes());
        }
        if !is_date {
            out.extend_from_slice(line);
        }
    }
}

fn named<'a>(fields: &[(&str, &'a [u8])], wanted: &str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| *v)
}

/// `HTTP/1.x SP status SP [reason]` (RFC 9112 §4): whether it is of HTTP/1.0, status and reason.
fn status_line(line: &[u8]) -> Option<(bool, u16, &[u8])> {
    let (version, rest) = line.split_at_checked(8)?;
    let http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    let (status, reason) = match rest {
        [b' ', a, b, c, b' ', reason @ ..] => ([a, b, c], reason),
        // Without a reason some leave the space out, too.
        [b' ', a, b, c] => ([a, b, c], &[][..]),
        _ => return None,
    };
    if !status.iter().all(|digit| digit.is_ascii_digit()) || !reason.iter().all(|b| value_byte(*b))
    {
        return None;
    }
    let status = status.iter().fold(0, |n, digit| n * 10 + u16::from(*digit - b'0'));
    (100..600).contains(&status).then_some((http10, status, reason))
}

/// The fields that frame an answer's body.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    fn see(&mut self, name: &str, value: &[u8]) -> Result<(), What> {
        if name.eq_ignore_ascii_case("content-length") {
            let length = length(value).map_err(|_| What::Length)?;
            let once = self.length.replace(length).is_none();
            return once.then_some(()).ok_or(What::Length);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            let once = !std::mem::replace(&mut self.chunked, true);
            let plain = once && value.eq_ignore_ascii_case(b"chunked");
            return plain.then_some(()).ok_or(What::Coding);
        }
        Ok(())
    }

    /// What follows the head (RFC 9112 §6.3), where that has one reading.
    fn rest(&self, http10: bool, empty: bool) -> Result<Rest, What> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(What::LengthAndCoding),
            (None, true) if http10 => Err(What::CodingInHttp10),
            _ if empty => Ok(Rest::Length(0)),
            (Some(length), false) => Ok(Rest::Length(length)),
            (None, true) => Ok(Rest::Chunked(Chunks::default())),
            (None, false) => Ok(Rest::UntilClose),
        }
    }
}

/// Judge the head at the beginning of a backend's answer: its length once it is whole.
///
/// # Errors
/// If it has more than one reading, or is too large.
pub fn judge_answer(bytes: &[u8]) -> Result<Option<usize>, AnswerFault> {
    Ok(read(bytes, false, false, &mut Vec::new())?.map(|head| head.length))
}

/// The answer to a refused request, as it goes over the wire.
pub(super) fn refusal(reply: Reply, date: &str, close: bool, bodiless: bool) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {} {}\r\n", reply.status, reply.reason).into_bytes();
    for (name, value) in &reply.fields {
        put(&mut out, name, value.as_bytes());
    }
    put(&mut out, "Content-Length", reply.body.len().to_string().as_bytes());
    put(&mut out, "Date", date.as_bytes());
    if close {
        put(&mut out, "Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless {
        out.extend_from_slice(reply.body.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests;
