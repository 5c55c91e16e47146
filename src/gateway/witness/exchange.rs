//! One request and its answer on a backend's connection, as their bytes pass: where each of them ends,
//! and whether anything else may follow.
//!
//! Knows no connection and no type of pingora's.

use crate::front::Chunks;
use crate::gateway::framing::{Body, HeadEnd, judge_raw};
use crate::gateway::lane::{AnswerFault, INTERIM_MAX, Rest, What, read_answer, read_switching};

/// One request and its answer, as they pass.
#[derive(Default)]
pub(super) struct Exchange {
    asked: Asked,
    bodiless: bool,
    /// Whether the request asks to leave HTTP, and the answer may say so.
    may_switch: bool,
    answer: Answer,
    interims: usize,
    /// The status of the answer, once its head was there.
    pub(super) status: Option<u16>,
    /// Whether something makes the connection unfit for another exchange.
    pub(super) spoiled: bool,
}

enum Asked {
    /// Its head is not whole yet.
    Head(Vec<u8>),
    Length(u64),
    Chunks(Chunks),
}

enum Answer {
    /// Its head is not whole yet.
    Head(Vec<u8>),
    Rest(Rest),
    Whole,
    /// It left HTTP: there is nothing to judge any more.
    Switched,
}

impl Default for Asked {
    fn default() -> Self {
        Asked::Head(Vec::new())
    }
}

impl Default for Answer {
    fn default() -> Self {
        Answer::Head(Vec::new())
    }
}

impl Exchange {
    /// One that may leave HTTP, or not.
    pub(super) fn new(may_switch: bool) -> Self {
        Exchange { may_switch, ..Exchange::default() }
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.answer, Answer::Whole)
    }

    pub(super) fn leaves_it_sound(&self) -> bool {
        self.is_asked() && self.is_answered() && !self.spoiled
    }

    /// Whether all of the request went to the backend.
    pub(super) fn is_asked(&self) -> bool {
        match &self.asked {
            Asked::Head(_) => false,
            Asked::Length(left) => *left == 0,
            Asked::Chunks(chunks) => chunks.is_done(),
        }
    }

    /// Bytes went to the backend.
    pub(super) fn went(&mut self, bytes: &[u8]) {
        match &mut self.asked {
            Asked::Head(head) => {
                head.extend_from_slice(bytes);
                let Ok(end) = HeadEnd::default().find(head) else {
                    self.spoiled = true;
                    return;
                };
                let Some((head, rest)) = end.and_then(|end| head.split_at_checked(end)) else {
                    return;
                };
                self.bodiless = head.starts_with(b"HEAD ");
                let rest = rest.to_vec();
                self.asked = match judge_raw(head) {
                    Ok(Body::Empty) => Asked::Length(0),
                    Ok(Body::Length(length)) => Asked::Length(length),
                    Ok(Body::Chunked) => Asked::Chunks(Chunks::default()),
                    Err(_) => {
                        self.spoiled = true;
                        Asked::Length(0)
                    }
                };
                self.went(&rest);
            }
            Asked::Length(left) => match left.checked_sub(bytes.len() as u64) {
                Some(rest) => *left = rest,
                None => self.spoiled = true,
            },
            Asked::Chunks(chunks) => {
                let mut rest = bytes;
                while let Ok(Some(_)) = chunks.next(&mut rest) {}
                self.spoiled |= !rest.is_empty();
            }
        }
    }

    /// Bytes came from the backend, or its end if there are none. Returns how many of them are of
    /// this answer.
    pub(super) fn came(&mut self, bytes: &[u8]) -> Result<usize, AnswerFault> {
        let used = match &mut self.answer {
            Answer::Head(head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                let head = std::mem::take(head);
                self.heads(&head)?.saturating_sub(before)
            }
            Answer::Rest(_) => self.rest(bytes)?,
            Answer::Whole => 0,
            Answer::Switched => bytes.len(),
        };
        self.spoiled |= used < bytes.len();
        Ok(used)
    }

    /// Interim heads and the answer's own, and what there is of its body. Returns how many bytes of
    /// `bytes` are of this answer.
    fn heads(&mut self, bytes: &[u8]) -> Result<usize, AnswerFault> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let read = if self.may_switch { read_switching } else { read_answer };
            let Some(head) = read(rest, self.bodiless, false, &mut Vec::new())? else {
                self.answer = Answer::Head(rest.to_vec());
                return Ok(bytes.len());
            };
            used += head.length;
            if head.status == 101 {
                self.status = Some(head.status);
                self.spoiled = true;
                self.answer = Answer::Switched;
                return Ok(bytes.len());
            }
            if head.status < 200 {
                self.interims += 1;
                if self.interims > INTERIM_MAX {
                    return Err(AnswerFault::in_head(What::TooManyInterims));
                }
                continue;
            }
            self.status = Some(head.status);
            self.spoiled |= !head.keep;
            self.answer = Answer::Rest(head.rest);
            return Ok(used + self.rest(bytes.get(used..).unwrap_or_default())?);
        }
    }

    fn rest(&mut self, bytes: &[u8]) -> Result<usize, AnswerFault> {
        let Answer::Rest(rest) = &mut self.answer else { return Ok(0) };
        let (used, whole) = match rest {
            Rest::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                (here, *left == 0)
            }
            Rest::Chunked(chunks) => {
                let mut rest = bytes;
                while chunks.next(&mut rest)?.is_some() {}
                (bytes.len() - rest.len(), chunks.is_done())
            }
            Rest::UntilClose => (bytes.len(), false),
        };
        if whole {
            self.answer = Answer::Whole;
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests;
