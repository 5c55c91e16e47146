//! Tests the site's PostgreSQL database as a start would.

use super::finding::{Ailment, Finding};
use super::{Probes, within};
use crate::app::store_place;
use crate::config::Config;
use crate::site::store::{Store, StorePlace};

pub(super) fn probe(config: &Config, probes: &mut Probes) {
    // A gateway that follows a site server has none. Faults of the URL are reported with the files.
    if config.site_server.is_some() {
        return;
    }
    let Ok((StorePlace::Postgres(url), path, _)) = store_place(config) else { return };
    let found = move |evidence: String| {
        Finding::new(Ailment::StoreFails, path.display().to_string(), evidence)
    };
    let late = found("it does not respond in time".to_owned());
    probes.spawn(within(late, async move {
        let tried = Store::try_out(&url).await;
        tried.err().map(|error| found(error.advice())).into_iter().collect()
    }));
}
