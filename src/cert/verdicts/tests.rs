//! Cached results equal fresh ones at every time, and the cache keeps no credential alive.

use proptest::prelude::*;
use sitegate_forge::{Order, Pki};

use crate::cert::{Credential, Source};
use crate::clock::second;

use super::*;

const NOW: i64 = 1_800_000_000;
const HOST: &str = "mp01.contoso.com";

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn hosts(name: &str) -> Vec<ServerName<'static>> {
    vec![ServerName::try_from(name.to_owned()).unwrap()]
}

/// A leaf that is valid for ten minutes, and its roots.
fn leaf(pki: &Pki) -> (Arc<Credential>, Arc<Anchors>) {
    let mut order = Order::fit(&[HOST], second(NOW));
    (order.from, order.until) = (second(NOW), second(NOW + 600));
    let forged = pki.issue(&order).unwrap();
    let key = Some(forged.key.as_bytes());
    let leaf = Credential::parse(forged.chain.as_bytes(), key, Source::Pki, &provider()).unwrap();
    (Arc::new(leaf), Arc::new(Anchors::from_pem(pki.root().as_bytes()).unwrap()))
}

/// Times around both ends of its validity, to the millisecond.
fn moments() -> impl Strategy<Value = Timestamp> {
    let near = |at: i64| (at - 2_500..at + 2_500).boxed();
    prop_oneof![near(0), near(600_000), -900_000..1_500_000_i64]
        .prop_map(|milli| Timestamp::from_millisecond(NOW * 1000 + milli).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn at_any_times_in_any_order_it_says_what_judging_says(
        times in prop::collection::vec(moments(), 1..12),
    ) {
        let pki = Pki::new("Contoso", second(NOW - 86_400)).unwrap();
        let (credential, anchors) = leaf(&pki);
        let (verdicts, hosts, provider) = (Verdicts::default(), hosts(HOST), provider());
        for now in times {
            let expected = Expectation { hosts: &hosts, anchors: &anchors, provider: &provider };
            prop_assert_eq!(
                verdicts.faults(&credential, &anchors, &hosts, &provider, now),
                faults(&credential, &expected, now)
            );
        }
    }
}

#[test]
fn other_roots_and_other_hosts_are_other_questions() {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let stranger = Pki::new("Fabrikam", second(NOW)).unwrap();
    let ((credential, anchors), (_, others)) = (leaf(&pki), leaf(&stranger));
    let verdicts = Verdicts::default();
    let unfit = |anchors: &Arc<Anchors>, host: &str| {
        let found = verdicts.faults(&credential, anchors, &hosts(host), &provider(), second(NOW));
        found.into_iter().map(|fault| fault.unfit).collect::<Vec<_>>()
    };
    use crate::unfit::Unfit;
    for _ in 0..2 {
        assert_eq!(unfit(&anchors, HOST), []);
        assert_eq!(unfit(&others, HOST), [Unfit::Untrusted]);
        assert_eq!(unfit(&anchors, "other.contoso.com"), [Unfit::NameMismatch]);
    }
}

#[test]
fn verdicts_of_unused_credentials_are_dropped() {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let verdicts = Verdicts::default();
    for _ in 0..5 {
        let (credential, anchors) = leaf(&pki);
        verdicts.faults(&credential, &anchors, &hosts(HOST), &provider(), second(NOW));
        assert_eq!(verdicts.0.lock().unwrap().len(), 1);
    }
}
