//! Reports the health of the site's store, and of the bundle for its gateways, to log, metrics and
//! readiness.
//!
//! One line when the store stops working and one when it works again, however many requests fail in
//! between.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::live::Live;
use crate::metrics::Metrics;
use crate::site::server::BundleHealth;
use crate::site::store::{OnStore, StoreEvent, StoreFault, StoreHealth};
use crate::token::BUNDLE_BYTES_MAX;

/// How often it is sampled for metrics.
const LOOK: Duration = Duration::from_secs(1);

/// The health of the site's services.
#[derive(Clone, Default)]
pub(super) struct SiteHealth {
    /// Its store; none on a gateway that follows a site server.
    pub(super) store: Option<Live<StoreHealth>>,
    /// Whether bundles are made for its gateways; none if there are no gateways.
    pub(super) bundles: Option<Live<BundleHealth>>,
}

impl SiteHealth {
    /// Warnings, a line each.
    pub(super) fn notes(&self) -> Vec<String> {
        let store = self.store.as_ref();
        let store = store.and_then(|store| store.peek(|health| note(health, Instant::now())));
        let bundles = self.bundles.as_ref().map(|bundles| bundles.load());
        let bundles = bundles.iter().flat_map(|bundles| bundle_notes(bundles));
        store.into_iter().chain(bundles).collect()
    }
}

/// Reports the store's events to the log and the metrics; the store works at first.
pub(super) fn tell(metrics: &Arc<Metrics>) -> OnStore {
    let metrics = metrics.clone();
    metrics.store.works(true);
    Arc::new(move |event| match event {
        StoreEvent::Failed(fault) => metrics.store.failed(fault.code()),
        StoreEvent::Down(trouble) => {
            metrics.store.works(false);
            let (what, told) = (words(trouble.fault).0, &trouble.told);
            tracing::error!(target: "sitegate::store", cause = trouble.fault.code(),
                "the site's store {what}: {told}");
        }
        StoreEvent::Up { trouble, failed } => {
            metrics.store.works(true);
            tracing::info!(target: "sitegate::store", cause = trouble.fault.code(),
                seconds = trouble.since.elapsed().as_secs(), failed,
                "the site's store {} again", words(trouble.fault).1);
        }
    })
}

/// Exports to metrics whether bundles are made, until stopped.
pub(super) async fn count_bundles(
    bundles: Live<BundleHealth>,
    metrics: Arc<Metrics>,
    mut ended: watch::Receiver<bool>,
) {
    while !*ended.borrow() {
        bundles.peek(|b| metrics.site.bundles_made(b.trouble.is_none(), b.bytes));
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Lines for readiness and status about bundles.
fn bundle_notes(bundles: &BundleHealth) -> Vec<String> {
    let trouble = bundles.trouble.iter();
    let trouble =
        trouble.map(|why| format!("gateways receive no updates: no bundle can be made: {why}"));
    let is_nearly_full = bundles.bytes > BUNDLE_BYTES_MAX / 4 * 3;
    let nearly_full = is_nearly_full.then(|| {
        format!(
            "the bundle has {} MiB, and gateways accept {}: unblock what need not be blocked any \
             more",
            bundles.bytes >> 20,
            BUNDLE_BYTES_MAX >> 20
        )
    });
    trouble.chain(nearly_full).collect()
}

/// The text for a store that fails, and for one that has recovered.
fn words(fault: StoreFault) -> (&'static str, &'static str) {
    if fault.is_of_writing() {
        ("cannot be written; until it can, only blocks are read from it", "can be written")
    } else {
        ("cannot be used", "can be used")
    }
}

/// A line for readiness and status while the store cannot be used.
pub(super) fn note(health: &StoreHealth, now: Instant) -> Option<String> {
    let trouble = health.trouble.as_ref()?;
    let ago = |at: Instant| now.saturating_duration_since(at).as_secs();
    let worked = match trouble.worked {
        Some(worked) => format!("worked last {} s ago", ago(worked)),
        None => "has not worked since the start".to_owned(),
    };
    let since = ago(trouble.since);
    let (what, told) = (words(trouble.fault).0, &trouble.told);
    Some(format!("the site's store {what} (for {since} s, {worked}): {told}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::store::StoreError;

    #[test]
    fn a_bundle_is_reported_before_it_is_too_large() {
        let notes = |trouble: Option<&str>, bytes| {
            let trouble = trouble.map(str::to_owned);
            bundle_notes(&BundleHealth { trouble, bytes })
        };
        assert_eq!(notes(None, BUNDLE_BYTES_MAX / 2), [""; 0]);
        let told = notes(None, BUNDLE_BYTES_MAX / 5 * 4);
        assert!(matches!(&*told, [one] if one.contains("51 MiB, and gateways accept 64")));
        assert_eq!(notes(Some("why"), BUNDLE_BYTES_MAX).len(), 2);
    }

    #[test]
    fn a_store_note_gives_cause_duration_and_remedy() {
        let (error, begun) = (StoreError::Full, Instant::now());
        let mut health = StoreHealth::without(&error, begun);
        let now = begun + Duration::from_secs(12);
        assert_eq!(note(&StoreHealth::default(), now), None);
        let told = note(&health, now).unwrap();
        let wanted = "the site's store cannot be written; until it can, only blocks are read from \
                      it (for 12 s, has not worked since the start): the store cannot grow: the \
                      disk is full (store.full). Free disk space";
        assert!(told.starts_with(wanted), "{told}");
        health.trouble.as_mut().unwrap().worked = Some(begun - Duration::from_secs(3));
        let told = note(&health, now).unwrap();
        assert!(told.contains("(for 12 s, worked last 15 s ago): "), "{told}");
    }
}
