//! What `client` prints: rows of steps while they are taken, and the sum of a fleet.
//!
//! Returns text; anstream takes the colours out where nobody would see them.

use std::fmt::Write;

use sitegate::cli::plain;

use crate::fleet::Summary;
use crate::walk::{WalkOutcome, WalkStep};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";
/// Widths of the columns: step, request, expected, milliseconds.
const WIDTHS: [usize; 4] = [24, 44, 24, 8];

pub(super) fn head() -> String {
    let [step, request, expected, ms] = WIDTHS;
    format!(
        "{:<step$} {:<request$} {:<expected$} {:>ms$}  {:<7} {}\n",
        "step", "request", "expected", "ms", "", "seen"
    )
}

pub(super) fn row(taken: &WalkStep) -> String {
    let [step, request, expected, ms] = WIDTHS;
    let (color, word) = match taken.outcome {
        WalkOutcome::Ok => (GREEN, "ok"),
        WalkOutcome::Failed => (RED, "FAILED"),
        WalkOutcome::Skipped => (DIM, "skipped"),
    };
    format!(
        "{:<step$} {:<request$} {:<expected$} {:>ms$.1}  {color}{word:<7}{RESET} {}\n",
        taken.step,
        cut(&taken.request, request),
        cut(&taken.expected, expected),
        taken.ms,
        plain(&taken.seen)
    )
}

pub(super) fn sum(steps: &[WalkStep], whole: bool) -> String {
    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    let (ok, failed) = (count(WalkOutcome::Ok), count(WalkOutcome::Failed));
    let cut = if whole { "" } else { ", and then it was interrupted" };
    let skipped = count(WalkOutcome::Skipped);
    format!("{ok} steps as expected, {failed} failed, {skipped} skipped{cut}\n")
}

/// Of so many clients.
pub(super) fn summary(summary: &Summary, wanted: u32) -> String {
    let mut text = String::new();
    let Summary { clients, seconds, requests, failed, requests_per_second, .. } = summary;
    // A string takes everything.
    let _ = writeln!(
        text,
        "{clients} of {wanted} clients in {seconds:.1} s: {requests} requests ({requests_per_second:.0}/s), {failed} failed\n"
    );
    let _ = writeln!(
        text,
        "{:<16} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "step", "requests", "failed", "p50 ms", "p90 ms", "p99 ms", "max ms"
    );
    for row in &summary.steps {
        let _ = writeln!(
            text,
            "{:<16} {:>9} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            row.step, row.requests, row.failed, row.p50_ms, row.p90_ms, row.p99_ms, row.max_ms
        );
    }
    for (title, causes) in
        [("failed", &summary.failures), ("put off, and asked again", &summary.put_off)]
    {
        if !causes.is_empty() {
            let _ = writeln!(text, "\n{title}");
        }
        for cause in causes {
            let what = plain(&cause.what);
            let _ = writeln!(text, "{:>9}  {:<16} {what}", cause.count, cause.step);
        }
    }
    text
}

/// The beginning of a text that may be too long.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() > width {
        text.chars().take(width - 1).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}
