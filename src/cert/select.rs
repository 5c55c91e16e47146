//! Selects the credential to serve: the operator's if fit, else the site-issued one, else the last
//! one served.
//!
//! A pure function of the sources' offers and the time. It keeps no state, so repeated calls cannot
//! flap.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::unfit::Unfit;

use super::{Credential, CredentialFault, Facts, Source};

/// A credential and its current faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The credential.
    pub credential: Arc<Credential>,
    /// Its faults, the most relevant first; none means fit.
    pub faults: Vec<CredentialFault>,
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

/// The offer of one source.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The source.
    pub source: Source,
    /// The current credential, or why there is none.
    pub found: Result<Judged, CredentialFault>,
    /// The last fit credential of this source, kept while a worse one is in its place; `None` once
    /// the operator has withdrawn it.
    pub kept: Option<Judged>,
    /// The other credentials of the source, and why a better one was preferred.
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

/// Why this credential is served: the word in status, metrics and log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The PKI certificate is fit.
    PkiFit,
    /// The certificate in the PKI folder is unfit; the last fit one from there stays in use.
    PkiKept,
    /// There is no PKI certificate.
    SiteIssuedNoPki,
    /// The PKI certificate is unfit.
    SiteIssuedPkiUnfit,
    /// No fit certificate is left; the last one served has expired and stays in use, because
    /// clients that still accept it are better served than refused.
    LastServedExpired,
    /// No fit certificate is left; the last one served was withdrawn, has no other fault, and has
    /// no replacement.
    LastServedWithdrawn,
    /// No certificate can be served.
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

    /// The word in status, metrics and log.
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

    /// Whether clients are, or are about to be, refused.
    pub const fn alarming(self) -> bool {
        matches!(self, Why::LastServedExpired | Why::LastServedWithdrawn | Why::NothingFit)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A credential that may not be served, with the most relevant reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its source.
    pub source: Source,
    /// The reason.
    pub fault: CredentialFault,
    /// The certificate's facts, if it could be read.
    pub facts: Option<Facts>,
}

/// The result: the credential to serve, the reason, the rejected ones, and when to select again.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The credential to serve; `None` refuses handshakes.
    pub chosen: Option<Arc<Credential>>,
    /// Why this one.
    pub why: Why,
    /// The credentials that may not be served, and those passed over for a better one of their
    /// source.
    pub rejected: Vec<Rejected>,
    /// When time alone may change the result.
    pub next_change: Option<Timestamp>,
}

/// Selects among the offers of the sources. `serving` is the credential in use, checked like the
/// others; it stays in use only when no source has a fit one.
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
    let site_issued = if of(Source::Pki).all(Offer::absent) {
        Why::SiteIssuedNoPki
    } else {
        Why::SiteIssuedPkiUnfit
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

/// The earliest future start or end of validity along any chain in play, or the renewal of a
/// site-issued certificate.
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
