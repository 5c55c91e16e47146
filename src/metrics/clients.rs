//! Metrics of the trust for client certificates.
//!
//! Labels are configured names only.

use prometheus::{Error, GaugeVec, IntGaugeVec};

use super::registrar::Registrar;

/// The metrics of client certificates.
pub struct ClientMetrics {
    authorities: IntGaugeVec,
    problems: IntGaugeVec,
    crl_expires: GaugeVec,
}

impl ClientMetrics {
    pub(super) fn new(r: &mut Registrar) -> Result<Self, Error> {
        Ok(ClientMetrics {
            authorities: r.int_gauges(
                "client_authorities",
                "Authorities whose client certificates a site system trusts.",
                &["site_system"],
            )?,
            problems: r.int_gauges(
                "client_trust_problems",
                "Problems with client_ca and client_crl, by kind.",
                &["site_system"],
            )?,
            crl_expires: r.gauges(
                "client_crl_expiration_timestamp_seconds",
                "When the first CRL of a site system expires, in seconds since 1970.",
                &["site_system"],
            )?,
        })
    }

    /// Sets the number of trusted CAs of a site system, the number of faults of their files, and
    /// when the first CRL expires; `None` if clients are not asked for certificates.
    pub fn trusted(&self, site: &str, files: Option<(usize, usize)>, crl: Option<i64>) {
        match files {
            Some((authorities, problems)) => {
                self.authorities.with_label_values(&[site]).set(authorities as i64);
                self.problems.with_label_values(&[site]).set(problems as i64);
            }
            None => {
                let _ = self.authorities.remove_label_values(&[site]);
                let _ = self.problems.remove_label_values(&[site]);
            }
        }
        match crl {
            Some(at) => self.crl_expires.with_label_values(&[site]).set(at as f64),
            None => {
                let _ = self.crl_expires.remove_label_values(&[site]);
            }
        }
    }
}
