//! One step of the walk: what is done, what should come of it, and what came of it.
//!
//! An error on the way is a failed step, never the end of the walk.

use std::time::{Duration, Instant};

use crate::sim::walk;

/// What is said of a step whatever happens.
pub(super) struct Told {
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
pub(super) struct Outcome {
    /// In words.
    pub(super) seen: String,
    /// Whether that is what was expected.
    pub(super) ok: bool,
}

/// A step that was done.
pub(super) struct Step {
    pub(super) number: usize,
    pub(super) title: &'static str,
    pub(super) does: String,
    pub(super) expected: String,
    pub(super) remark: &'static str,
    pub(super) seen: String,
    pub(super) ok: bool,
}

impl Step {
    pub(super) fn new(
        number: usize,
        told: &'static Told,
        outcome: anyhow::Result<Outcome>,
    ) -> Self {
        let Outcome { seen, ok } = outcome
            .unwrap_or_else(|error| Outcome { seen: format!("an error: {error:#}"), ok: false });
        let Told { title, does, expected, remark } = *told;
        let (does, expected) = (does.to_owned(), expected.to_owned());
        Step { number, title, does, expected, remark, seen, ok }
    }

    /// A step of a client's walk through the site.
    pub(super) fn walked(number: usize, step: &walk::Step) -> Self {
        Step {
            number,
            title: step.step,
            does: step.request.clone(),
            expected: step.expected.clone(),
            remark: "",
            seen: step.seen.clone(),
            ok: step.outcome == walk::Outcome::Ok,
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
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
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{what} did not come within {PATIENCE:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
