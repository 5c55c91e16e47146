//! One step of the walk: what is done, what should come of it, and what came of it.
//!
//! An error on the way is a failed step, never the end of the walk.

use std::time::{Duration, Instant};

use crate::walk;

/// What is said of a step whatever happens.
pub(super) struct StepText {
    /// Its name.
    pub(super) title: &'static str,
    /// What is done.
    pub(super) does: &'static str,
    /// What should come of it.
    pub(super) expected: &'static str,
    /// What an administrator may want to know.
    pub(super) remark: &'static str,
}

/// What came of a step.
pub(super) struct StepOutcome {
    /// In words.
    pub(super) seen: String,
    /// Whether that is what was expected.
    pub(super) ok: bool,
}

/// A step that was done.
pub(super) struct DemoStep {
    pub(super) number: usize,
    pub(super) title: &'static str,
    pub(super) does: String,
    pub(super) expected: String,
    pub(super) remark: &'static str,
    pub(super) seen: String,
    pub(super) ok: bool,
}

impl DemoStep {
    pub(super) fn new(
        number: usize,
        told: &'static StepText,
        outcome: anyhow::Result<StepOutcome>,
    ) -> Self {
        let StepOutcome { seen, ok } = outcome.unwrap_or_else(|error| StepOutcome {
            seen: format!("an error: {error:#}"),
            ok: false,
        });
        let StepText { title, does, expected, remark } = *told;
        let (does, expected) = (does.to_owned(), expected.to_owned());
        DemoStep { number, title, does, expected, remark, seen, ok }
    }

    /// A step of a client's walk through the site.
    pub(super) fn walked(number: usize, step: &walk::WalkStep) -> Self {
        DemoStep {
            number,
            title: step.step,
            does: step.request.clone(),
            expected: step.expected.clone(),
            remark: "",
            seen: step.seen.clone(),
            ok: step.outcome == walk::WalkOutcome::Ok,
        }
    }
}

const WAIT_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Look again and again until there is something to see.
pub(super) async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        anyhow::ensure!(begun.elapsed() < WAIT_MAX, "{what} did not come within {WAIT_MAX:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
