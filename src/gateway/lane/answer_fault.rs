//! What is wrong with a backend's answer that is not passed on, and where.

use std::fmt;

use crate::front::Malformed;

/// What is wrong with an answer: it has more than one reading, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFault {
    what: What,
    place: Place,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum What {
    /// RFC 9112 §4.
    StatusLine,
    /// RFC 9112 §2.2: a line feed or carriage return alone.
    LineEnd,
    /// RFC 9112 §5.
    Field,
    /// More than is read.
    HeadTooLarge,
    /// More than are read.
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
    /// More than are passed on.
    TooManyInterims,
    /// RFC 9110 §15.2.2.
    Switch,
}

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The line of its head, from 1.
    Line(usize),
    Head,
    Body,
}

impl AnswerFault {
    /// Of a line of the head, counted from 1.
    pub(in crate::gateway) fn in_line(what: What, line: usize) -> Self {
        AnswerFault { what, place: Place::Line(line) }
    }

    /// Of the head as a whole.
    pub(in crate::gateway) fn in_head(what: What) -> Self {
        AnswerFault { what, place: Place::Head }
    }
}

impl From<Malformed> for AnswerFault {
    fn from(Malformed: Malformed) -> Self {
        AnswerFault { what: What::Chunk, place: Place::Body }
    }
}

impl fmt::Display for AnswerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::StatusLine => "its first line is no status line of HTTP/1.0 or 1.1",
            What::LineEnd => "a line does not end with CR LF",
            What::Field => "a field is not a name, a colon and printable characters",
            What::HeadTooLarge => "its head is larger than 64 KiB",
            What::TooManyFields => "it has more than 256 fields",
            What::Length => "Content-Length is not one plain number, once",
            What::Coding => "Transfer-Encoding is not chunked alone, once",
            What::LengthAndCoding => "it has both Content-Length and Transfer-Encoding",
            What::CodingInHttp10 => "it has Transfer-Encoding, and is of HTTP/1.0",
            What::Chunk => "a chunk is not as RFC 9112 §7.1 has it",
            What::TooManyInterims => "more than 8 interim answers came before it",
            What::Switch => "it switches to another protocol, which nobody asked for",
        })?;
        match self.place {
            Place::Line(line) => write!(f, " (line {line} of its head)"),
            Place::Head => Ok(()),
            Place::Body => f.write_str(" (in its body)"),
        }
    }
}

impl std::error::Error for AnswerFault {}
