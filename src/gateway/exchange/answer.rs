//! Parses the head of a backend's response: checks that it has exactly one reading, and filters its
//! fields for the client.

use super::answer_fault::{AnswerFault, What};
use super::client::Follows;
use crate::front::Chunks;
use crate::gateway::judge::framing::{HeadEnd, Lines, field, length, value_byte};
use crate::gateway::judge::headers;

/// A real response head is small; a larger one is refused.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 256;

/// The rest of a response after its head.
#[derive(Debug)]
pub(super) enum Rest {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// Everything until the backend closes.
    UntilClose,
    /// Bytes of another protocol, until either side closes.
    Tunnel,
}

/// The facts of the request that the response is parsed by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestTraits {
    /// Whether the response has no body despite its head (HEAD).
    pub(super) bodiless: bool,
    /// Whether the request asked for an upgrade to WebSocket.
    pub(super) websocket: bool,
    /// Whether the client may be challenged for Windows authentication.
    pub(super) windows: bool,
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct BackendHead<'a> {
    /// The status; below 200 for an interim response.
    pub(super) status: u16,
    pub(super) reason: &'a [u8],
    /// The fields for the client.
    pub(super) fields: Vec<(&'a str, &'a [u8])>,
    /// Its length in bytes.
    pub(super) length: usize,
    /// The rest on the backend's connection; `follows` is the rest for the client.
    pub(super) rest: Rest,
    pub(super) follows: Follows,
    /// Whether the backend connection can be reused.
    pub(super) keep: bool,
}

/// Parses the head at the start of `bytes`; `None` while it is incomplete.
///
/// # Errors
/// If it has more than one reading, is too large, or switches protocols unasked.
pub(super) fn read(
    bytes: &[u8],
    asked: RequestTraits,
) -> Result<Option<BackendHead<'_>>, AnswerFault> {
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
    if status == 101 && !(asked.websocket && becomes_websocket(&fields)) {
        return Err(AnswerFault::in_line(What::Switch, first));
    }
    let empty = asked.bodiless || status < 200 || matches!(status, 204 | 304);
    let rest = match status {
        101 => Rest::Tunnel,
        _ => framing.rest(http10, empty).map_err(AnswerFault::in_head)?,
    };
    let nominated: Vec<&[u8]> = named(&fields, "connection").collect();
    let keep = !http10
        && !matches!(rest, Rest::UntilClose | Rest::Tunnel)
        && !nominated.iter().any(|value| headers::names(value, "close"));
    fields.retain(|(name, value)| {
        let ours = match name.len() {
            14 => name.eq_ignore_ascii_case("content-length") && (status < 200 || status == 204),
            16 => {
                !asked.windows
                    && name.eq_ignore_ascii_case("www-authenticate")
                    && headers::windows_challenge(value)
            }
            17 => name.eq_ignore_ascii_case("transfer-encoding"),
            _ => false,
        };
        !ours && headers::response_passes(name, nominated.iter().copied())
    });
    let follows = match rest {
        Rest::Length(0) if asked.bodiless && framing.chunked => Follows::NoBody,
        Rest::Length(0) => Follows::Nothing,
        Rest::Length(length) => Follows::Length(length),
        Rest::Chunked(_) | Rest::UntilClose => Follows::Body,
        Rest::Tunnel => Follows::AnotherProtocol,
    };
    Ok(Some(BackendHead { status, reason, fields, length: end, rest, follows, keep }))
}

impl BackendHead<'_> {
    /// Checks whether it has a field.
    pub(super) fn has(&self, wanted: &str) -> bool {
        named(&self.fields, wanted).next().is_some()
    }
}

fn named<'f, 'a>(
    fields: &'f [(&str, &'a [u8])],
    wanted: &'f str,
) -> impl Iterator<Item = &'a [u8]> + 'f {
    fields.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| *v)
}

/// Checks that a 101 switches to WebSocket and to no other protocol (RFC 6455 §4.2.2).
fn becomes_websocket(fields: &[(&str, &[u8])]) -> bool {
    let mut protocols = named(fields, "upgrade");
    protocols.next().is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
        && protocols.next().is_none()
}

/// Parses `HTTP/1.x SP status SP [reason]` (RFC 9112 §4): whether it is HTTP/1.0, status and
/// reason.
fn status_line(line: &[u8]) -> Option<(bool, u16, &[u8])> {
    let (version, rest) = line.split_at_checked(8)?;
    let http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    let (status, reason) = match rest {
        [b' ', a, b, c, b' ', reason @ ..] => ([a, b, c], reason),
        // Without a reason, some servers also omit the space.
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

/// The fields that frame a response body.
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

    /// Returns the rest after the head (RFC 9112 §6.3), if it has one reading.
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

/// Judges the head at the start of a backend's response. Returns its length once it is complete.
///
/// # Errors
/// If it has more than one reading, or is too large.
pub fn judge_answer(bytes: &[u8]) -> Result<Option<usize>, AnswerFault> {
    Ok(read(bytes, RequestTraits::default())?.map(|head| head.length))
}

#[cfg(test)]
mod tests;
