//! Reports changes of certificates, once each: to the log and to an observer (metrics).
//!
//! The words are the codes of the closed lists. A report is repeated only when it has changed.

use jiff::Timestamp;

use crate::cert::{CredentialFault, Offer, Rejected, Selection, Source, Unstapled, Why};
use crate::unfit::Unfit;

/// Receives the reports, for metrics. All arguments are configured names or from closed lists.
pub trait Observer: Send + Sync {
    /// Another credential is served, or none (`to` is `None`).
    fn swapped(&self, site_system: &str, from: Option<Source>, to: Option<Source>, cause: Why) {
        let _ = (site_system, from, to, cause);
    }

    /// The credential that is served now and the reason: called at each swap, and when only the
    /// reason has changed.
    fn chosen(&self, site_system: &str, source: Option<Source>, why: Why) {
        let _ = (site_system, source, why);
    }

    /// Why a source's credential may not be served; `None` once that is over.
    fn rejected(&self, site_system: &str, source: Source, unfit: Option<Unfit>) {
        let _ = (site_system, source, unfit);
    }

    /// When a source's credential expires; `None` when it has none.
    fn expires(&self, site_system: &str, source: Source, not_after: Option<Timestamp>) {
        let _ = (site_system, source, not_after);
    }

    /// Until when the stapled OCSP response is valid, if one is stapled, and whether an unusable
    /// one is present.
    fn stapled(&self, site_system: &str, next_update: Option<Timestamp>, in_vain: bool) {
        let _ = (site_system, next_update, in_vain);
    }
}

/// Discards all reports.
impl Observer for () {}

/// A fault that should be fixed but does not stop the certificate from being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The key is readable by its group.
    KeyGroupReadable,
    /// The site-issued certificate is due for renewal and could not be renewed.
    RenewalOverdue(CredentialFault),
    /// The OCSP response beside the certificate is unusable.
    Unstapled(Unstapled),
    /// A CA above the certificate expires soon: its name, and when.
    AuthorityEnding(String, Timestamp),
}

impl Warning {
    /// The log code.
    pub const fn code(&self) -> &'static str {
        match self {
            Warning::KeyGroupReadable => "certificate.key_group_readable",
            Warning::RenewalOverdue(_) => "certificate.renewal_overdue",
            Warning::Unstapled(_) => "certificate.unstapled",
            Warning::AuthorityEnding(..) => "certificate.authority_ending",
        }
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Warning::KeyGroupReadable => f.write_str("the private key is readable by its group"),
            Warning::RenewalOverdue(fault) => {
                write!(f, "the certificate could not be renewed: {fault}")
            }
            Warning::Unstapled(why) => write!(f, "the OCSP response is not stapled: {why}"),
            Warning::AuthorityEnding(name, until) => {
                write!(
                    f,
                    "the authority {name} expires at {until}, and the certificate is unfit from \
                     then on"
                )
            }
        }
    }
}

/// Whether a rejection needs no warning: an empty folder, or last year's certificate beside this
/// year's.
fn quiet(rejected: &Rejected) -> bool {
    matches!(rejected.fault.unfit, Unfit::Absent | Unfit::Superseded)
}

/// The last reports, so as not to repeat them.
#[derive(Debug, Default)]
pub(super) struct LastReport {
    rejected: Vec<Rejected>,
    warnings: Vec<(Source, Warning)>,
    expires: Vec<(Source, Option<Timestamp>)>,
}

/// Reports for one site system.
pub(super) struct Reporter<'a> {
    pub name: &'a str,
    pub port: u16,
    pub observer: &'a dyn Observer,
}

impl Reporter<'_> {
    pub fn swapped(&self, from: Option<Source>, selection: &Selection) {
        let to = selection.chosen.as_ref().map(|credential| credential.source());
        self.observer.swapped(self.name, from, to, selection.why);
        if let Some(chosen) = &selection.chosen {
            // The wording of Configuration Manager's own log.
            let (thumbprint, port) = (&chosen.facts().sha1, self.port);
            tracing::info!(target: "sitegate::certificate", site_system = self.name,
                "Bound certificate {thumbprint} to port {port}");
        }
        self.outcome(from, selection);
    }

    /// Reports the credential served now and the reason, also when only the reason has changed.
    pub fn outcome(&self, from: Option<Source>, selection: &Selection) {
        let facts = selection.chosen.as_ref().map(|credential| credential.facts());
        let source = selection.chosen.as_ref().map(|credential| credential.source());
        self.observer.chosen(self.name, source, selection.why);
        let to = selection.chosen.as_ref().map(|credential| credential.source().as_str());
        let (from, to) = (from.map_or("none", Source::as_str), to.unwrap_or("none"));
        let (subject, sha1) =
            facts.map(|f| (f.subject.as_str(), f.sha1.as_str())).unwrap_or_default();
        let not_after = facts.map(|f| f.not_after.to_string()).unwrap_or_default();
        let why = selection.why.as_str();
        if selection.why.alarming() {
            tracing::error!(target: "sitegate::certificate", site_system = self.name, from, to, why,
                subject, thumbprint = sha1, not_after, "no fit certificate is left");
        } else {
            tracing::info!(target: "sitegate::certificate", site_system = self.name, from, to, why,
                subject, thumbprint = sha1, not_after, "certificate selected");
        }
    }

    /// Reports new rejections. Those that need no warning appear only in the outcome.
    pub fn rejected(&self, told: &mut LastReport, rejected: Vec<Rejected>) {
        for new in rejected.iter().filter(|new| !told.rejected.contains(new)) {
            if quiet(new) {
                continue;
            }
            let thumbprint = new.facts.as_ref().map_or("", |facts| facts.sha1.as_str());
            tracing::warn!(target: "sitegate::certificate", site_system = self.name,
                source = new.source.as_str(), code = new.fault.unfit.code(),
                detail = new.fault.detail, thumbprint, hint = new.fault.unfit.hint(),
                "certificate rejected");
        }
        // One reason for each source, the most relevant: that of the credential it would have
        // served comes first.
        let reason = |list: &[Rejected], source| {
            list.iter().find(|r| r.source == source && !quiet(r)).map(|r| r.fault.unfit)
        };
        for source in Source::ALL {
            let (before, now) = (reason(&told.rejected, source), reason(&rejected, source));
            if before != now {
                self.observer.rejected(self.name, source, now);
            }
        }
        told.rejected = rejected;
    }

    pub fn warned(&self, told: &mut LastReport, warnings: Vec<(Source, Warning)>) {
        for (source, warning) in warnings.iter().filter(|new| !told.warnings.contains(new)) {
            tracing::warn!(target: "sitegate::certificate", site_system = self.name,
                source = source.as_str(), code = warning.code(), "{warning}");
        }
        told.warnings = warnings;
    }

    pub fn expires(&self, told: &mut LastReport, offers: &[Offer]) {
        let ends = |offer: &Offer| {
            let held = offer.found.as_ref().ok().or(offer.kept.as_ref());
            (offer.source, held.map(|judged| judged.credential.facts().not_after))
        };
        let expires: Vec<_> = offers.iter().map(ends).collect();
        for (source, not_after) in expires.iter().filter(|new| !told.expires.contains(new)) {
            self.observer.expires(self.name, *source, *not_after);
        }
        told.expires = expires;
    }
}
