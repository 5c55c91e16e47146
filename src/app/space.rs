//! Monitors free space on the file systems that the process writes to: a full one loses tokens,
//! blocks and log lines, and only this warns of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::examine::Examined;
use crate::config::{Config, LogSink};
use crate::metrics::Metrics;
use crate::os::{self, Space};

/// Warns below this many bytes, and below this fraction (one of `PARTS`), unless `PLENTY` is free.
const LEFT_MIN: u64 = 100_000_000;
const PARTS: u64 = 20;
const PLENTY: u64 = 2_000_000_000;
/// How often it is checked.
const EVERY: Duration = Duration::from_secs(5);

/// The folders that the process writes to, with their description. One for each file system.
fn places(config: &Config) -> Vec<(String, PathBuf, Space)> {
    let state = &config.site.state;
    let mut folders = vec![("the state directory".to_owned(), state.clone())];
    if let LogSink::File(path) = &config.log.access
        && let Some(folder) = path.parent()
    {
        folders.push(("the access log".to_owned(), folder.to_owned()));
    }
    folders.extend(config.log.cmtrace.iter().map(|f| ("the CMTrace log".to_owned(), f.clone())));
    let mut found: Vec<(String, PathBuf, Space)> = Vec::new();
    for (what, folder) in folders {
        let Some(space) = os::space(&folder) else { continue };
        if !found.iter().any(|(_, _, known)| known.device == space.device) {
            found.push((what, folder, space));
        }
    }
    found
}

/// The warning for a file system; none while enough is free.
fn told(what: &str, folder: &Path, space: &Space) -> Option<String> {
    let is_short = space.left < LEFT_MIN.max((space.total / PARTS).min(PLENTY));
    let percent = space.left.saturating_mul(100).checked_div(space.total).unwrap_or(0);
    is_short.then(|| {
        format!(
            "{}: {} MB are free on the file system of {what}, {percent} % of it",
            folder.display(),
            space.left / 1_000_000
        )
    })
}

/// Reports low space. So little that the store may soon fail is a fault.
pub(crate) fn examine(config: &Config) -> Examined {
    let mut found = Examined::default();
    for (what, folder, space) in places(config) {
        let into = if space.left < LEFT_MIN { &mut found.wrong } else { &mut found.notes };
        into.extend(told(&what, &folder, &space));
    }
    found
}

/// Low space while the process runs, checked every few seconds.
#[derive(Clone)]
pub(super) struct SpaceWatch {
    seen: Arc<Mutex<(Option<Instant>, Vec<String>)>>,
    metrics: Arc<Metrics>,
}

impl SpaceWatch {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        SpaceWatch { seen: Arc::default(), metrics }
    }

    /// A line for each file system that is low on space.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Checks, if the interval has passed.
    pub(super) fn look(&self, config: impl FnOnce() -> Config, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            return;
        }
        seen.0 = Some(now);
        let config = config();
        let places = places(&config);
        let of_state = places.iter().find(|(_, folder, _)| *folder == config.site.state);
        if let Some((_, _, space)) = of_state {
            self.metrics.process.state_free(space.left);
        }
        let lines: Vec<String> =
            places.iter().filter_map(|(what, folder, space)| told(what, folder, space)).collect();
        // The figures change all the time; the number of lines shows whether a shortage began or
        // ended.
        if lines.len() > seen.1.len() {
            tracing::warn!(target: "sitegate::probe", "little disk space is left: {}", lines.join("; "));
        }
        seen.1 = lines;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_space_is_reported_by_bytes_or_by_share() {
        const GB: u64 = 1_000_000_000;
        for (left, total, is_told) in [
            (2 * GB, 10 * GB, false),
            (499_999_999, 10 * GB, true),
            (500_000_000, 10 * GB, false),
            (2 * GB - 1, 250 * GB, true),
            (2 * GB, 250 * GB, false),
            (99_999_999, GB, true),
            (100_000_000, GB, false),
            (0, 0, true),
        ] {
            let space = Space { left, total, device: 1 };
            let line = told("the state directory", Path::new("/state"), &space);
            assert_eq!(line.is_some(), is_told, "{left} of {total}: {line:?}");
        }
        let space = Space { left: 42_000_000, total: GB, device: 1 };
        let line = told("the state directory", Path::new("/state"), &space).unwrap();
        assert_eq!(
            line,
            "/state: 42 MB are free on the file system of the state directory, 4 % of it"
        );
    }
}
