//! Outages of a backend's address in the log: one line when it begins, and one when it is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend_health::{BackendState, HealthSeen};

/// How long nothing may have failed before an outage is over: an address that comes and goes is one
/// outage, not a line each second.
const QUIET: Duration = Duration::from_secs(10);

/// The outage of one address, once it was told.
#[derive(Debug, Default)]
pub(super) struct Outage {
    began: Option<Instant>,
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Nothing,
    Begins,
    /// After so long.
    Over(Duration),
}

impl Outage {
    /// An address that is down since then, or `None`; `quiet` if nothing has failed for a while.
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

    /// Say what there is to say of an address.
    pub(super) fn look(
        &mut self,
        (backend, address): (&str, &str),
        seen: &HealthSeen,
        now: Instant,
    ) {
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

    /// The same of a backend's name, which resolves to no address or to some.
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
    fn an_outage_is_told_once_and_its_end_once() {
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
