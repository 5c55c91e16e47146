//! The faults for which a backend's response is refused, and their place.

use std::fmt;

use crate::front::Malformed;

/// The fault of a response: it has more than one reading, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFault {
    what: What,
    place: FaultPlace,
}

/// The fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// RFC 9112 §4.
    StatusLine,
    /// RFC 9112 §2.2: a line feed or carriage return alone.
    LineEnd,
    /// RFC 9112 §5.
    Field,
    /// Larger than the limit.
    HeadTooLarge,
    /// More than the limit.
    TooManyFields,
    /// RFC 9112 §6.3.
    Length,
    /// RFC 9112 §6.1.
    Coding,
    /// RFC 9112 §6.1.
    LengthAndCoding,
    /// RFC 9112 §6.1.
    CodingInHttp10,
    /// RFC 9112 §7.1.
    Chunk,
    /// More than the limit.
    TooManyInterims,
    /// RFC 9110 §15.2.2.
    Switch,
}

/// The place of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultPlace {
    /// The line of the head, from 1.
    Line(usize),
    Head,
    Body,
}

impl AnswerFault {
    /// A fault in a line of the head, counted from 1.
    pub(super) fn in_line(what: What, line: usize) -> Self {
        AnswerFault { what, place: FaultPlace::Line(line) }
    }

    /// A fault of the head as a whole.
    pub(super) fn in_head(what: What) -> Self {
        AnswerFault { what, place: FaultPlace::Head }
    }
}

impl From<Malformed> for AnswerFault {
    fn from(Malformed: Malformed) -> Self {
        AnswerFault { what: What::Chunk, place: FaultPlace::Body }
    }
}

impl fmt::Display for AnswerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::StatusLine => "its first line is not a status line of HTTP/1.0 or 1.1",
            What::LineEnd => "a line does not end with CR LF",
            What::Field => "a field is not a name, a colon and printable characters",
            What::HeadTooLarge => "its head is larger than 64 KiB",
            What::TooManyFields => "it has more than 256 fields",
            What::Length => "Content-Length is not one plain number, once",
            What::Coding => "Transfer-Encoding is not chunked alone, once",
            What::LengthAndCoding => "it has both Content-Length and Transfer-Encoding",
            What::CodingInHttp10 => "it is HTTP/1.0 and has Transfer-Encoding",
            What::Chunk => "a chunk does not follow RFC 9112 §7.1",
            What::TooManyInterims => "more than 8 interim responses came before it",
            What::Switch => "it switches to another protocol without an Upgrade request",
        })?;
        match self.place {
            FaultPlace::Line(line) => write!(f, " (line {line} of its head)"),
            FaultPlace::Head => Ok(()),
            FaultPlace::Body => f.write_str(" (in its body)"),
        }
    }
}

impl std::error::Error for AnswerFault {}
