//! Which credential to serve: the operator's if fit, else the site's, else the last one served.
//!
//! A pure function of what the sources offer and of the time. It remembers nothing, so asking twice
//! cannot flap.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::unfit::Unfit;

use super::{Credential, Facts, Fault, Source};

/// A credential and everything that is wrong with it now.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The credential.
    pub credential: Arc<Credential>,
    /// Its faults, the most telling first; none means fit.
    pub faults: Vec<Fault>,
}

impl Judged {
    /// Whether it may be served.
    pub fn fit(&self) -> bool {
        self.faults.is_empty()
    }

    fn only_expired(&self) -> bool {
        matches!(self.faults.as_slice(), [fault] if fault.unfit == Unfit::Expired)
    }
}

/// What one source has to offer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Which source.
    pub source: Source,
    /// What is there now, or why nothing can be made of it.
    pub found: Result<Judged, Fault>,
    /// The last fit credential of this source, held while something worse lies in its place; `None`
    /// once the operator has withdrawn it.
    pub kept: Option<Judged>,
    /// What else lies there, and why something better was found.
    pub passed_over: Vec<Rejected>,
}

impl Offer {
    fn found_fit(&self) -> Option<&Judged> {
        self.found.as_ref().ok().filter(|judged| judged.fit())
    }

    fn kept_fit(&self) -> Option<&Judged> {
        self.kept.as_ref().filter(|judged| judged.fit())
    }

    fn judged(&self) -> impl Iterator<Item = &Judged> {
        self.found.as_ref().ok().into_iter().chain(&self.kept)
    }

    fn absent(&self) -> bool {
        matches!(&self.found, Err(fault) if fault.unfit == Unfit::Absent)
    }

    fn rejected(&self) -> Option<Rejected> {
        let (fault, facts) = match &self.found {
            Ok(judged) => (judged.faults.first()?, Some(judged.credential.facts().clone())),
            Err(fault) => (fault, None),
        };
        Some(Rejected { source: self.source, fault: fault.clone(), facts })
    }
}

/// Why this credential is served: the word in status, metric and log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The PKI certificate is fit.
    PkiFit,
    /// What lies in the PKI folder is unfit; the last fit certificate from there goes on.
    PkiKept,
    /// The PKI has given none.
    SiteIssuedNoPki,
    /// What the PKI has given is unfit.
    SiteIssuedPkiUnfit,
    /// Nothing fit is left; the last one served has expired and goes on, because clients that
    /// still accept it are better served than turned away.
    LastServedExpired,
    /// Nothing fit is left; the last one served was withdrawn, nothing else is wrong with it, and
    /// there is nothing to put in its place.
    LastServedWithdrawn,
    /// Nothing can be served.
    NothingFit,
}

impl Why {
    /// Every reason, in the order of the documentation.
    pub const ALL: &[Why] = &[
        Why::PkiFit,
        Why::PkiKept,
        Why::SiteIssuedNoPki,
        Why::SiteIssuedPkiUnfit,
        Why::LastServedExpired,
        Why::LastServedWithdrawn,
        Why::NothingFit,
    ];

    /// The word in status, metric and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Why::PkiFit => "pki-fit",
            Why::PkiKept => "pki-kept",
            Why::SiteIssuedNoPki => "site-issued-no-pki",
            Why::SiteIssuedPkiUnfit => "site-issued-pki-unfit",
            Why::LastServedExpired => "last-served-expired",
            Why::LastServedWithdrawn => "last-served-withdrawn",
            Why::NothingFit => "nothing-fit",
        }
    }

    /// Whether clients are, or are about to be, turned away.
    pub const fn alarming(self) -> bool {
        matches!(self, Why::LastServedExpired | Why::LastServedWithdrawn | Why::NothingFit)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a source has to offer and may not be served, with the most telling reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which source.
    pub source: Source,
    /// Why not.
    pub fault: Fault,
    /// What the certificate says about itself, where it could be read.
    pub facts: Option<Facts>,
}

/// The outcome: what to serve, why, what was passed over, and when to ask again.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// What to serve; `None` refuses handshakes.
    pub chosen: Option<Arc<Credential>>,
    /// Why this one.
    pub why: Why,
    /// What may not be served, and what was passed over for something better of its source.
    pub rejected: Vec<Rejected>,
    /// When the passing of time alone may change the outcome.
    pub next_change: Option<Timestamp>,
}

/// Choose among what the sources offer. `serving` is what is being served, judged as everything
/// else; it only goes on when no source has anything fit.
pub fn select(offers: &[Offer], serving: Option<&Judged>, now: Timestamp) -> Selection {
    let (chosen, why) = choose(offers, serving);
    Selection {
        chosen: chosen.map(|judged| judged.credential.clone()),
        why,
        rejected: offers
            .iter()
            .flat_map(|offer| offer.rejected().into_iter().chain(offer.passed_over.clone()))
            .collect(),
        next_change: next_change(offers, serving, now),
    }
}

fn choose<'a>(offers: &'a [Offer], serving: Option<&'a Judged>) -> (Option<&'a Judged>, Why) {
    let of = |source| offers.iter().filter(move |offer| offer.source == source);
    let site_issued = match of(Source::Pki).all(Offer::absent) {
        true => Why::SiteIssuedNoPki,
        false => Why::SiteIssuedPkiUnfit,
    };
    let fit = of(Source::Pki)
        .find_map(Offer::found_fit)
        .map(|judged| (judged, Why::PkiFit))
        .or_else(|| Some((of(Source::Pki).find_map(Offer::kept_fit)?, Why::PkiKept)))
        .or_else(|| Some((of(Source::SiteIssued).find_map(Offer::found_fit)?, site_issued)))
        .or_else(|| Some((of(Source::SiteIssued).find_map(Offer::kept_fit)?, site_issued)));
    match (fit, serving) {
        (Some((judged, why)), _) => (Some(judged), why),
        (None, Some(last)) if last.only_expired() => (Some(last), Why::LastServedExpired),
        (None, Some(last)) if last.fit() => (Some(last), Why::LastServedWithdrawn),
        _ => (None, Why::NothingFit),
    }
}

/// The earliest future end or beginning of validity along any chain in play, or renewal of a
/// certificate of our own.
fn next_change(offers: &[Offer], serving: Option<&Judged>, now: Timestamp) -> Option<Timestamp> {
    let in_play = offers.iter().flat_map(Offer::judged).chain(serving);
    let passed_over = offers.iter().flat_map(|offer| &offer.passed_over);
    let passed_over = passed_over
        .filter_map(|rejected| rejected.facts.as_ref())
        .flat_map(|facts| [facts.not_before, facts.invalid_from()]);
    in_play
        .flat_map(|judged| {
            let credential = &judged.credential;
            let renewed = credential.source() == Source::SiteIssued;
            let renewal = renewed.then(|| credential.facts().renewal());
            let chain = std::iter::once(credential.facts()).chain(credential.issuers());
            chain.flat_map(|facts| [facts.not_before, facts.invalid_from()]).chain(renewal)
        })
        .chain(passed_over)
        .filter(|moment| *moment > now)
        .min()
}

#[cfg(test)]
mod tests;
