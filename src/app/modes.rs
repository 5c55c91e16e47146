//! Tells of site systems that observe: when they begin, and when they enforce again by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::gateway::Policy;
use crate::live::Live;
use crate::metrics::Metrics;

/// How late a change is told at most; requests are judged by the clock itself.
const LOOK: Duration = Duration::from_secs(1);

/// The site systems that are meant to observe, and whether they did when last looked at.
#[derive(Default)]
struct Seen(BTreeMap<Arc<str>, bool>);

/// Look at the policy until told to stop.
pub(super) async fn tell(
    policy: Live<Policy>,
    metrics: Arc<Metrics>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) {
    let mut seen = Seen::default();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => seen.look(&policy.load(), &metrics, &clock),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

impl Seen {
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
            metrics.observing(&site.name, Some(observes));
            match (observes, was) {
                (true, _) => tracing::warn!(
                    target: "sitegate::mode", site_system = &*site.name, until = %until.0,
                    "observes: requests that would be denied go on"
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
            metrics.observing(&name, None);
            if observed {
                tracing::warn!(target: "sitegate::mode", site_system = &*name, "no longer observes");
            }
        }
    }
}
