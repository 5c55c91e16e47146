//! The selection: its laws as properties, its cases as a table.

use proptest::prelude::*;
use sitegate_forge::{Order, Pki};

use crate::clock::second;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// Three credentials of each source: enough to tell found, kept and serving apart.
fn credentials() -> &'static [Arc<Credential>] {
    static MADE: std::sync::LazyLock<Vec<Arc<Credential>>> = std::sync::LazyLock::new(|| {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pki = Pki::new("Contoso", second(NOW)).unwrap();
        let forged = pki.issue(&Order::fit(&["mp01.contoso.com"], second(NOW))).unwrap();
        let sources = [Source::Pki, Source::SiteIssued];
        sources
            .iter()
            .flat_map(|source| [0; 3].map(|_| *source))
            .map(|source| {
                let (chain, key) = (forged.chain.as_bytes(), Some(forged.key.as_bytes()));
                Arc::new(Credential::parse(chain, key, source, &provider).unwrap())
            })
            .collect()
    });
    &MADE
}

fn faults() -> impl Strategy<Value = Vec<CredentialFault>> {
    let unfit = prop::sample::select(vec![Unfit::Expired, Unfit::NameMismatch, Unfit::Untrusted]);
    prop_oneof![
        Just(Vec::new()),
        Just(vec![CredentialFault::from(Unfit::Expired)]),
        prop::collection::vec(unfit.prop_map(CredentialFault::from), 1..3),
    ]
}

fn judged(at: usize) -> impl Strategy<Value = Judged> {
    faults().prop_map(move |faults| Judged { credential: credentials()[at].clone(), faults })
}

fn offer(source: Source, at: usize) -> impl Strategy<Value = Offer> {
    let broken = prop::sample::select(vec![Unfit::Absent, Unfit::Incomplete, Unfit::KeyExposed]);
    let found = prop_oneof![judged(at).prop_map(Ok), broken.prop_map(|unfit| Err(unfit.into()))];
    (found, prop::option::of(judged(at + 1))).prop_map(move |(found, kept)| Offer {
        passed_over: Vec::new(),
        source,
        found,
        kept,
    })
}

fn scene() -> impl Strategy<Value = (Vec<Offer>, Option<Judged>)> {
    let offers =
        (prop::option::of(offer(Source::Pki, 0)), prop::option::of(offer(Source::SiteIssued, 3)))
            .prop_map(|(pki, site)| pki.into_iter().chain(site).collect());
    (offers, prop::option::of(judged(2)))
}

fn fit_of(offers: &[Offer], source: Source) -> bool {
    offers.iter().any(|offer| offer.source == source && offer.judged().any(Judged::fit))
}

proptest! {
    #[test]
    fn nothing_unfit_is_served_while_a_source_has_something_fit((offers, serving) in scene()) {
        let selection = select(&offers, serving.as_ref(), second(NOW));
        if Source::ALL.iter().any(|source| fit_of(&offers, *source)) {
            let chosen = selection.chosen.expect("something is chosen");
            let all = offers.iter().flat_map(Offer::judged);
            prop_assert!(all.filter(|j| j.fit()).any(|j| Arc::ptr_eq(&j.credential, &chosen)));
        }
    }

    #[test]
    fn pki_wins_if_and_only_if_fit((offers, serving) in scene()) {
        let selection = select(&offers, serving.as_ref(), second(NOW));
        let won = matches!(selection.why, Why::PkiFit | Why::PkiKept);
        prop_assert_eq!(won, fit_of(&offers, Source::Pki));
        if won {
            prop_assert_eq!(selection.chosen.unwrap().source(), Source::Pki);
        }
    }

    #[test]
    fn the_last_served_stays_only_if_merely_expired_or_withdrawn((offers, serving) in scene()) {
        let selection = select(&offers, serving.as_ref(), second(NOW));
        match selection.why {
            Why::LastServedExpired => prop_assert!(serving.unwrap().only_expired()),
            Why::LastServedWithdrawn => prop_assert!(serving.unwrap().fit()),
            Why::NothingFit => prop_assert!(selection.chosen.is_none()),
            _ => {}
        }
    }

    #[test]
    fn asking_again_with_the_outcome_in_service_changes_nothing((offers, serving) in scene()) {
        let first = select(&offers, serving.as_ref(), second(NOW));
        let mut in_play = offers.iter().flat_map(Offer::judged).chain(&serving);
        let served = first.chosen.as_ref().and_then(|chosen| {
            in_play.find(|judged| Arc::ptr_eq(&judged.credential, chosen))
        });
        let again = select(&offers, served, second(NOW));
        prop_assert_eq!(&again.chosen, &first.chosen);
        prop_assert_eq!(again.why, first.why);
    }

    #[test]
    fn what_is_found_unfit_is_named_and_the_next_change_lies_ahead((offers, serving) in scene(), now in NOW..NOW + 100 * DAY) {
        let selection = select(&offers, serving.as_ref(), second(now));
        let unfit = offers.iter().filter(|offer| offer.found_fit().is_none()).count();
        prop_assert_eq!(selection.rejected.len(), unfit);
        prop_assert!(selection.next_change.is_none_or(|next| next > second(now)));
    }
}

#[test]
fn the_next_change_is_renewal_or_the_end_of_validity() {
    for (at, expected) in [(0, NOW + 90 * DAY + 1), (3, NOW + (90 * DAY + 3600) / 3 * 2 - 3600)] {
        let judged = Judged { credential: credentials()[at].clone(), faults: Vec::new() };
        let source = judged.credential.source();
        let offer = Offer { source, found: Ok(judged), kept: None, passed_over: Vec::new() };
        let selection = select(&[offer], None, second(NOW));
        assert_eq!(selection.next_change, Some(second(expected)), "{source}");
    }
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<_> = Why::ALL.iter().map(|why| why.as_str()).collect();
    assert_eq!(words.len(), Why::ALL.len());
}
