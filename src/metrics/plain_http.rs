//! The metric label of plain HTTP requests: their outcome.

/// The outcome of a request on a plain HTTP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearOutcome {
    /// Refused.
    Refused,
    /// Redirected to https.
    Redirected,
    /// Forwarded to the backend unchanged.
    Passed,
    /// Answered with a publication of the site's CA.
    Served,
}

impl ClearOutcome {
    /// Every outcome, in the order of the documentation.
    pub const ALL: [ClearOutcome; 4] = [
        ClearOutcome::Refused,
        ClearOutcome::Redirected,
        ClearOutcome::Passed,
        ClearOutcome::Served,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            ClearOutcome::Refused => "refused",
            ClearOutcome::Redirected => "redirected",
            ClearOutcome::Passed => "passed",
            ClearOutcome::Served => "served",
        }
    }
}
