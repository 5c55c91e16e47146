//! Logs outages of a backend address: one line when an outage begins, one when it is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend_health::{BackendState, HealthSeen};

/// How long no request may fail before an outage is over: a flapping address is one outage, not a
/// line each second.
const QUIET: Duration = Duration::from_secs(10);

/// The outage of one address, once it was logged.
#[derive(Debug, Default)]
pub(super) struct Outage {
    began: Option<Instant>,
}

/// A change to log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Nothing,
    Begins,
    /// The outage ended after this time.
    Over(Duration),
}

impl Outage {
    /// The change since the last sample. `down` is when the address went down, `None` while it is
    /// up; `quiet` if no request has failed for a while.
    fn next(&mut self, down: Option<Instant>, quiet: bool, now: Instant) -> News {
        match (self.began, down) {
            (None, Some(since)) => {
                self.began = Some(since);
                News::Begins
            }
            (Some(since), None) if quiet => {
                self.began = None;
                News::Over(now.saturating_duration_since(since))
            }
            _ => News::Nothing,
        }
    }

    /// Logs a change in the state of an address.
    pub(super) fn look(&mut self, backend: &str, address: &str, seen: &HealthSeen, now: Instant) {
        let last = seen.last_failure.as_ref();
        let quiet = last.is_none_or(|(ago, _, _)| *ago >= QUIET);
        let down = seen.state_since.filter(|_| seen.state == BackendState::Down);
        let down = down.map(|ago| now.checked_sub(ago).unwrap_or(now));
        match (self.next(down, quiet, now), last) {
            (News::Begins, Some((_, fault, detail))) => tracing::warn!(
                target: "sitegate::backend",
                backend, address, code = fault.code(), detail, hint = fault.hint(),
                "the backend does not serve requests"
            ),
            (News::Over(lasted), _) => tracing::info!(
                target: "sitegate::backend",
                backend, address, lasted_s = lasted.as_secs(),
                "the backend serves requests again"
            ),
            _ => {}
        }
    }

    /// The same for a backend's name: down while it resolves to no address.
    pub(super) fn look_for_name(&mut self, backend: &str, none: bool, now: Instant) {
        match self.next(none.then_some(now), true, now) {
            News::Begins => tracing::warn!(
                target: "sitegate::backend",
                backend, "the backend's name does not resolve; trying again every 30 seconds"
            ),
            News::Over(lasted) => tracing::info!(
                target: "sitegate::backend",
                backend, lasted_s = lasted.as_secs(), "the backend's name resolves"
            ),
            News::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_reported_once_and_so_is_its_end() {
        let (began, mut outage) = (Instant::now(), Outage::default());
        let lasted = |seconds| News::Over(Duration::from_secs(seconds));
        let looks = [
            (false, true, News::Nothing),
            (true, false, News::Begins),
            (true, false, News::Nothing),
            (false, false, News::Nothing),
            (true, false, News::Nothing),
            (false, false, News::Nothing),
            (false, true, lasted(6)),
            (false, true, News::Nothing),
            (true, false, News::Begins),
        ];
        for (second, (down, quiet, news)) in (0..).zip(looks) {
            let now = began + Duration::from_secs(second);
            let since = down.then_some(began);
            assert_eq!(outage.next(since, quiet, now), news, "in second {second}");
        }
    }
}
