//! Certificate metrics: what each site system serves, what it may not serve, and until when.
//!
//! Labels are configured names and words from closed lists only.

use prometheus::{Error, GaugeVec, IntCounterVec, IntGaugeVec};

use super::registrar::Registrar;
use crate::unfit::Unfit;

/// The metrics of site systems' certificates.
pub struct CertificateMetrics {
    expires: GaugeVec,
    served: IntGaugeVec,
    rejected: IntGaugeVec,
    swaps: IntCounterVec,
    staple_expires: GaugeVec,
    unstapled: IntGaugeVec,
}

impl CertificateMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        Ok(CertificateMetrics {
            expires: r.gauges(
                "certificate_expiration_timestamp_seconds",
                "When the certificate of a source expires, in seconds since 1970.",
                &["site_system", "source"],
            )?,
            served: r.int_gauges(
                "certificate_info",
                "1 for the source of the certificate that is served.",
                &["site_system", "source", "reason"],
            )?,
            rejected: r.int_gauges(
                "certificate_rejected",
                "1 while a source holds a certificate that may not be served, by reason.",
                &["site_system", "source", "reason"],
            )?,
            swaps: r.counters(
                "certificate_swaps_total",
                "Changes of the served certificate.",
                &["site_system", "from", "to", "cause"],
            )?,
            staple_expires: r.gauges(
                "certificate_staple_expiration_timestamp_seconds",
                "When the stapled OCSP response expires, in seconds since 1970.",
                &["site_system"],
            )?,
            unstapled: r.int_gauges(
                "certificate_unstapled",
                "1 while a certificate has an OCSP response that is not stapled.",
                &["site_system"],
            )?,
        })
    }

    /// Sets when the certificate of a source expires; `None` if it has none.
    pub fn expires(&self, site: &str, source: &'static str, seconds: Option<i64>) {
        match seconds {
            Some(at) => self.expires.with_label_values(&[site, source]).set(at as f64),
            None => {
                let _ = self.expires.remove_label_values(&[site, source]);
            }
        }
    }

    /// Sets which source is served, and the reason.
    pub fn served(&self, site: &str, before: Option<(&str, &str)>, now: Option<(&str, &str)>) {
        if let Some((source, reason)) = before {
            let _ = self.served.remove_label_values(&[site, source, reason]);
        }
        if let Some((source, reason)) = now {
            self.served.with_label_values(&[site, source, reason]).set(1);
        }
    }

    /// Sets why a source's certificate may not be served; `None` if it may, or if there is none.
    pub fn rejected(&self, site: &str, source: &'static str, why: Option<Unfit>) {
        for unfit in Unfit::ALL {
            let labels = [site, source, unfit.code()];
            if Some(*unfit) == why {
                self.rejected.with_label_values(&labels).set(1);
            } else {
                let _ = self.rejected.remove_label_values(&labels);
            }
        }
    }

    /// Counts a change of the served certificate.
    pub fn swapped(&self, site: &str, from: &str, to: &str, cause: &str) {
        self.swaps.with_label_values(&[site, from, to, cause]).inc();
    }

    /// Sets until when an OCSP response is stapled, if one is, and whether an unusable one is
    /// present.
    pub fn stapled(&self, site: &str, until: Option<i64>, in_vain: bool) {
        match until {
            Some(at) => self.staple_expires.with_label_values(&[site]).set(at as f64),
            None => {
                let _ = self.staple_expires.remove_label_values(&[site]);
            }
        }
        if in_vain {
            self.unstapled.with_label_values(&[site]).set(1);
        } else {
            let _ = self.unstapled.remove_label_values(&[site]);
        }
    }
}
