//! What came of a step, and how it is compared with what should have.

use std::io;
use std::time::Duration;

use super::{Outcome, Step};
use crate::sim::client::{Answer, ClientError, Request};
use crate::sim::device::DeviceError;
use crate::token::MintError;

/// Why a step was not taken to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    /// Something that an earlier step or the caller would have brought.
    #[error("there is not {0}")]
    Lacks(&'static str),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Key(#[from] MintError),
    #[error("the name does not resolve: {0}")]
    Name(#[from] io::Error),
    /// An answer that nobody expects.
    #[error("{0}")]
    Odd(&'static str),
}

/// A step before it has a name.
pub(super) struct Taken {
    request: String,
    expected: String,
    status: Option<u16>,
    code: Option<String>,
    seen: String,
    outcome: Outcome,
}

impl Taken {
    /// An answer that should have this status.
    pub(super) fn wants(status: u16, request: &Request, answer: &Answer) -> Self {
        Taken::compare(format!("{status}"), answer.status == status, request, answer)
    }

    /// An answer that should be a refusal with one of these codes.
    pub(super) fn wants_refusal(
        status: u16,
        codes: &[&str],
        request: &Request,
        answer: &Answer,
    ) -> Self {
        let code = answer.code();
        let same = code.as_deref().is_some_and(|code| codes.contains(&code));
        let expected = format!("{status} {}", codes.join(" or "));
        Taken::compare(expected, same && answer.status == status, request, answer)
    }

    fn compare(expected: String, same: bool, request: &Request, answer: &Answer) -> Self {
        Taken {
            request: request.line(),
            expected,
            status: Some(answer.status),
            code: answer.code(),
            seen: answer.line(),
            outcome: if same { Outcome::Ok } else { Outcome::Failed },
        }
    }

    /// What a token service should have done, and did.
    pub(super) fn service(request: &str, status: u16, seen: String) -> Self {
        Taken {
            request: request.to_owned(),
            expected: status.to_string(),
            status: Some(status),
            code: None,
            seen: format!("{status} {seen}"),
            outcome: Outcome::Ok,
        }
    }

    /// More that was seen, and whether it is as it should be.
    pub(super) fn and(mut self, ok: bool, seen: &str) -> Self {
        // Of a refusal there is no more to see than its code.
        if self.code.is_none() {
            self.seen = format!("{}, {seen}", self.seen);
        }
        if !ok && self.outcome == Outcome::Ok {
            self.outcome = Outcome::Failed;
        }
        self
    }

    /// With another request in its name.
    pub(super) fn of(mut self, request: String) -> Self {
        self.request = request;
        self
    }

    /// Not taken.
    pub(super) fn skipped(why: &str) -> Self {
        Taken {
            request: String::new(),
            expected: String::new(),
            status: None,
            code: None,
            seen: why.to_owned(),
            outcome: Outcome::Skipped,
        }
    }

    /// Not taken to its end.
    pub(super) fn error(error: WalkError) -> Self {
        let mut taken = Taken::skipped(&error.to_string());
        match error {
            WalkError::Lacks(_) => {}
            WalkError::Device(DeviceError::Refused { status, code, .. }) => {
                taken.outcome = Outcome::Failed;
                taken.seen = format!("{status} {code}");
                (taken.status, taken.code) = (Some(status), Some(code));
            }
            _ => taken.outcome = Outcome::Failed,
        }
        taken
    }

    pub(super) fn step(self, step: &'static str, took: Duration) -> Step {
        let Taken { request, expected, status, code, mut seen, outcome } = self;
        if let Some(code) = code.as_deref().filter(|code| !seen.contains(code)) {
            seen = format!("{seen} ({code})");
        }
        let ms = (took.as_secs_f64() * 10_000.0).round() / 10.0;
        Step { step, request, expected, status, code, seen, ms, outcome }
    }
}
