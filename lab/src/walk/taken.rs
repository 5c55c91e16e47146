//! The result of a step, and its comparison with the expected one.

use std::io;
use std::time::Duration;

use sitegate::token::MintError;

use super::{WalkOutcome, WalkStep};
use crate::client::{ClientError, SimAnswer, SimRequest};
use crate::device::DeviceError;

/// Why a step was not completed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    /// A missing result of an earlier step, or a missing setting.
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
    /// An unexpected response.
    #[error("{0}")]
    Odd(&'static str),
}

/// The result of a step, without its name.
pub(super) struct Taken {
    request: String,
    expected: String,
    status: Option<u16>,
    code: Option<String>,
    seen: String,
    outcome: WalkOutcome,
}

impl Taken {
    /// Expects this status.
    pub(super) fn wants(status: u16, request: &SimRequest, answer: &SimAnswer) -> Self {
        Taken::compare(format!("{status}"), answer.status == status, request, answer)
    }

    /// Expects a refusal with one of these codes.
    pub(super) fn wants_refusal(
        status: u16,
        codes: &[&str],
        request: &SimRequest,
        answer: &SimAnswer,
    ) -> Self {
        let code = answer.code();
        let same = code.as_deref().is_some_and(|code| codes.contains(&code));
        let expected = format!("{status} {}", codes.join(" or "));
        Taken::compare(expected, same && answer.status == status, request, answer)
    }

    fn compare(expected: String, same: bool, request: &SimRequest, answer: &SimAnswer) -> Self {
        Taken {
            request: request.line(),
            expected,
            status: Some(answer.status),
            code: answer.code(),
            seen: answer.line(),
            outcome: if same { WalkOutcome::Ok } else { WalkOutcome::Failed },
        }
    }

    /// The result of a successful token service request.
    pub(super) fn service(request: &str, status: u16, seen: String) -> Self {
        Taken {
            request: request.to_owned(),
            expected: status.to_string(),
            status: Some(status),
            code: None,
            seen: format!("{status} {seen}"),
            outcome: WalkOutcome::Ok,
        }
    }

    /// Adds another observation, and whether it is as expected.
    pub(super) fn and(mut self, ok: bool, seen: &str) -> Self {
        // A refusal has nothing more to show than its code.
        if self.code.is_none() {
            self.seen = format!("{}, {seen}", self.seen);
        }
        if !ok && self.outcome == WalkOutcome::Ok {
            self.outcome = WalkOutcome::Failed;
        }
        self
    }

    /// The same for another request line.
    pub(super) fn of(mut self, request: String) -> Self {
        self.request = request;
        self
    }

    /// A skipped step.
    pub(super) fn skipped(why: &str) -> Self {
        Taken {
            request: String::new(),
            expected: String::new(),
            status: None,
            code: None,
            seen: why.to_owned(),
            outcome: WalkOutcome::Skipped,
        }
    }

    /// A step that was not completed.
    pub(super) fn error(error: WalkError) -> Self {
        let mut taken = Taken::skipped(&error.to_string());
        match error {
            WalkError::Lacks(_) => {}
            WalkError::Device(DeviceError::Refused { status, code, .. }) => {
                taken.outcome = WalkOutcome::Failed;
                taken.seen = format!("{status} {code}");
                (taken.status, taken.code) = (Some(status), Some(code));
            }
            _ => taken.outcome = WalkOutcome::Failed,
        }
        taken
    }

    pub(super) fn step(self, step: &'static str, took: Duration) -> WalkStep {
        let Taken { request, expected, status, code, mut seen, outcome } = self;
        if let Some(code) = code.as_deref().filter(|code| !seen.contains(code)) {
            seen = format!("{seen} ({code})");
        }
        let ms = (took.as_secs_f64() * 10_000.0).round() / 10.0;
        WalkStep { step, request, expected, status, code, seen, ms, outcome }
    }
}
