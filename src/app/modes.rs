//! Logs the mode of site systems: when they begin to observe, and when they enforce again by
//! themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::gateway::Policy;
use crate::live::Live;
use crate::metrics::Metrics;

/// How late a change is logged at most; requests use the clock itself.
const LOOK: Duration = Duration::from_secs(1);

/// The site systems configured to observe, and whether they did at the last check.
#[derive(Default)]
struct LastModes(BTreeMap<Arc<str>, bool>);

/// Checks the policy until stopped.
pub(super) async fn tell(
    policy: Live<Policy>,
    metrics: Arc<Metrics>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) {
    let mut seen = LastModes::default();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => seen.look(&policy.load(), &metrics, &clock),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

impl LastModes {
    fn look(&mut self, policy: &Policy, metrics: &Metrics, clock: &Clock) {
        let now = clock.now();
        let mut before = std::mem::take(&mut self.0);
        for site in policy.sites.values() {
            let Some(observing) = &site.observing else { continue };
            let until = observing.until();
            let observes = until.holds(now);
            let was = before.remove(&site.name);
            self.0.insert(site.name.clone(), observes);
            if was == Some(observes) {
                continue;
            }
            metrics.process.observing(&site.name, Some(observes));
            match (observes, was) {
                (true, _) => tracing::warn!(
                    target: "sitegate::mode", site_system = &*site.name, until = %until.0,
                    "observes: requests that would be denied are forwarded"
                ),
                (false, Some(true)) => tracing::error!(
                    target: "sitegate::mode", site_system = &*site.name, until = %until.0,
                    "enforces again, because observe_until has passed: requests are denied from now on"
                ),
                (false, _) => tracing::warn!(
                    target: "sitegate::mode", site_system = &*site.name, until = %until.0,
                    "enforces, because observe_until has passed"
                ),
            }
        }
        for (name, observed) in before {
            metrics.process.observing(&name, None);
            if observed {
                tracing::warn!(target: "sitegate::mode", site_system = &*name, "no longer observes");
            }
        }
    }
}
