//! Reports certificate events to metrics, and early refusals to the access log.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::cert::{Source, Why};
use crate::clock::Clock;
use crate::control::Observer;
use crate::denial::Denial;
use crate::front::ConnInfo;
use crate::gateway::{Policy, RequestId};
use crate::live::Live;
use crate::log::{Access, AccessLog};
use crate::metrics::Metrics;
use crate::unfit::Unfit;

/// Certificate events, as metrics.
pub(super) struct Certificates {
    metrics: Arc<Metrics>,
    served: Mutex<Option<(&'static str, &'static str)>>,
}

impl Certificates {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Certificates { metrics, served: Mutex::new(None) })
    }
}

impl Observer for Certificates {
    fn swapped(&self, site: &str, from: Option<Source>, to: Option<Source>, cause: Why) {
        let name = |source: Option<Source>| source.map_or("none", Source::as_str);
        self.metrics.certificates.swapped(site, name(from), name(to), cause.as_str());
    }

    fn chosen(&self, site: &str, source: Option<Source>, why: Why) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let now = source.map(|source| (source.as_str(), why.as_str()));
        self.metrics.certificates.served(site, *served, now);
        *served = now;
    }

    fn rejected(&self, site: &str, source: Source, unfit: Option<Unfit>) {
        self.metrics.certificates.rejected(site, source.as_str(), unfit);
    }

    fn stapled(&self, site: &str, next_update: Option<Timestamp>, in_vain: bool) {
        let until = next_update.map(|at| at.as_second());
        self.metrics.certificates.stapled(site, until, in_vain);
    }

    fn expires(&self, site: &str, source: Source, not_after: Option<Timestamp>) {
        let seconds = not_after.map(|at| at.as_second());
        self.metrics.certificates.expires(site, source.as_str(), seconds);
    }
}

/// Called for a connection on which requests were refused unread, with the details.
pub(super) type ReportRefusal = Arc<dyn Fn(&ConnInfo, &str) + Send + Sync>;

/// HTTP/2 requests that were refused before they were complete: the same counters and log.
pub(super) fn refusals(policy: Live<Policy>, access: AccessLog, clock: Clock) -> ReportRefusal {
    Arc::new(move |conn, detail| {
        let denial = Denial::FramingHead;
        if let Some(site) = policy.load().sites.get(&conn.site) {
            site.metrics.no_route.denied(denial);
        }
        access.write(&Access {
            time: clock.now(),
            request_id: &RequestId::next().to_string(),
            site_system: &conn.site,
            client: conn.peer.ip().to_canonical(),
            local: Some(conn.local),
            connection: conn.id,
            protocol: "HTTP/2",
            tls: conn.tls_version,
            sni: conn.sni.as_deref(),
            status: denial.status(),
            reason: Some(denial.code()),
            detail: Some(detail),
            ..Access::unread()
        });
    })
}
