//! The metric of what still comes in clear, and what becomes of it.

/// What became of a request on an address of plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearOutcome {
    /// It was refused.
    Refused,
    /// Its client was sent to https.
    Redirected,
    /// It went to the backend as it came.
    Passed,
    /// It was for what the site's authority publishes.
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
