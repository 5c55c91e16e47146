//! Every kind of client certificate, with every kind of trust.

use std::sync::Arc;

use rstest::rstest;
use rustls_pki_types::pem::PemObject;
use sitegate_forge::{Forged, Order, Pki, Usage, below_roots, crowd};

use super::*;
use crate::client::{Authorities, Crls, Presented};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

struct Scene {
    pki: Pki,
}

impl Scene {
    fn new() -> Scene {
        Scene { pki: Pki::new("Contoso", second(NOW)).unwrap() }
    }

    fn forge(&self, spoil: impl FnOnce(&mut Order)) -> Forged {
        let mut order = Order::fit(&["client01.contoso.com"], second(NOW));
        order.usage = Usage::Client;
        spoil(&mut order);
        self.pki.issue(&order).unwrap()
    }

    fn crls(&self, revoked: &[&Forged], until: i64) -> Crls {
        let (from, until) = (second(NOW - DAY), second(until));
        Crls::parse(self.pki.crl(revoked, from, until).unwrap().as_bytes()).unwrap()
    }

    fn trust(&self, crls: Option<Crls>, expired_count: bool) -> Arc<ClientTrust> {
        let authorities = Authorities::parse(self.pki.root().as_bytes()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Arc::new(ClientTrust::new(authorities, crls, expired_count, &provider))
    }
}

#[test]
fn an_authority_vouches_within_its_dates() {
    let span = |from: i64, until: i64| (second(NOW + from), second(NOW + until));
    let mut order = Order::fit(&["client01.contoso.com"], second(NOW));
    order.usage = Usage::Client;
    let (roots, leaf) = below_roots(&[span(-DAY, 10), span(-DAY, -1)], &order).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let judged = |ca: &str, now: i64| {
        let authorities = Authorities::parse(ca.as_bytes()).unwrap();
        let told = authorities.faults(second(now)).count();
        let trust = ClientTrust::new(authorities, None, false, &provider);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(leaf.chain.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
        let judgement = judge(&chain, &trust, second(now));
        let until = judgement.until.as_second() - NOW;
        (denial(judgement.verdict), until, told)
    };
    let untrusted = Some(Denial::CertificateUntrusted);
    assert_eq!(judged(&roots[0], NOW), (None, 11, 0));
    assert_eq!(judged(&roots[0], NOW + 11), (untrusted, 71, 1));
    assert_eq!(judged(&roots[1], NOW), (untrusted, 60, 1));
    assert_eq!(judged(&roots.concat(), NOW), (None, 11, 1), "any of its issues will do");
}

fn presented(pem: &str) -> Presented {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes());
    Presented::of(&chain.collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
}

fn denial(verdict: CertificateVerdict) -> Option<Denial> {
    verdict.err().map(|(denial, _)| denial)
}

#[rstest]
#[case::good(|_: &mut Order| (), None)]
#[case::expired(|o: &mut Order| o.until = second(NOW - 60), Some(Denial::CertificateExpired))]
#[case::not_yet(|o: &mut Order| o.from = second(NOW + 60), Some(Denial::CertificateExpired))]
#[case::a_servers(|o: &mut Order| o.usage = Usage::Server, Some(Denial::CertificateUsage))]
#[case::for_anything(|o: &mut Order| o.usage = Usage::Unsaid, Some(Denial::CertificateUsage))]
#[case::an_authority(|o: &mut Order| o.is_ca = true, Some(Denial::CertificateUntrusted))]
#[case::odd_extension(|o: &mut Order| o.unknown_critical = true, Some(Denial::CertificateUntrusted))]
#[case::nul_in_its_name(|o: &mut Order| o.hosts = vec!["a.contoso.com\0.evil.com".to_owned()], None)]
fn a_certificate_is_good_or_has_a_denial_code(
    #[case] spoil: fn(&mut Order),
    #[case] expected: Option<Denial>,
) {
    let scene = Scene::new();
    let presented = presented(&scene.forge(spoil).chain);
    assert_eq!(denial(presented.verdict(&scene.trust(None, false), second(NOW))), expected);
}

#[test]
fn a_stranger_and_a_chain_with_a_gap_are_not_trusted() {
    let (scene, other) = (Scene::new(), Scene::new());
    let forged = other.forge(|_| ());
    let trust = scene.trust(None, false);
    for pem in [forged.chain, scene.forge(|_| ()).leaf] {
        let found = denial(presented(&pem).verdict(&trust, second(NOW)));
        assert_eq!(found, Some(Denial::CertificateUntrusted));
    }
}

#[test]
fn a_chain_of_same_named_authorities_is_refused_at_any_size() {
    let trust = Scene::new().trust(None, false);
    for (authorities, why) in [
        (3, "no chain to a trusted authority"),
        (4, "too many certificates of one name in the chain"),
        (9, "too many certificates of one name in the chain"),
        (10, "the chain has too many certificates or bytes"),
        (99, "the chain has too many certificates or bytes"),
    ] {
        let presented = presented(&crowd(authorities, second(NOW)).unwrap().chain);
        let found = presented.verdict(&trust, second(NOW));
        assert_eq!(found, Err((Denial::CertificateUntrusted, why)), "{authorities}");
    }
}

#[test]
fn a_revoked_certificate_is_refused_and_its_neighbour_is_not() {
    let scene = Scene::new();
    let (bad, good) = (scene.forge(|_| ()), scene.forge(|_| ()));
    let trust = scene.trust(Some(scene.crls(&[&bad], NOW + DAY)), false);
    let judged = |forged: &Forged| denial(presented(&forged.chain).verdict(&trust, second(NOW)));
    assert_eq!((judged(&bad), judged(&good)), (Some(Denial::CertificateRevoked), None));
}

#[test]
fn a_missing_or_expired_crl_denies_unless_configured_otherwise() {
    let (scene, other) = (Scene::new(), Scene::new());
    let (bad, good) = (scene.forge(|_| ()), scene.forge(|_| ()));
    let unknown = Some(Denial::CertificateRevocationUnknown);
    let expired = || Some(scene.crls(&[&bad], NOW - 60));
    for (crls, accepted, of_bad, of_good) in [
        (Some(Crls::default()), false, unknown, unknown),
        (Some(Crls::default()), true, unknown, unknown),
        (Some(other.crls(&[], NOW + DAY)), false, unknown, unknown),
        (expired(), false, unknown, unknown),
        (expired(), true, Some(Denial::CertificateRevoked), None),
        (None, false, None, None),
    ] {
        let trust = scene.trust(crls, accepted);
        for (forged, expected) in [(&bad, of_bad), (&good, of_good)] {
            let found = denial(presented(&forged.chain).verdict(&trust, second(NOW)));
            assert_eq!(found, expected, "{trust:?}");
        }
    }
}

#[test]
fn of_two_lists_of_one_authority_the_newer_counts() {
    let scene = Scene::new();
    let leaf = scene.forge(|_| ());
    let parsed = |revoked: &[&Forged], from| {
        let pem = scene.pki.crl(revoked, second(from), second(NOW + DAY)).unwrap();
        Crls::parse(pem.as_bytes()).unwrap()
    };
    for (old, new, expected) in
        [(&[][..], &[&leaf][..], Some(Denial::CertificateRevoked)), (&[&leaf][..], &[][..], None)]
    {
        let (old, new) = (parsed(old, NOW - 9), parsed(new, NOW - 1));
        for crls in [old.clone().and(new.clone()), new.and(old)] {
            let trust = scene.trust(Some(crls), false);
            let found = denial(presented(&leaf.chain).verdict(&trust, second(NOW)));
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_verdict_is_cached_no_longer_than_it_is_valid() {
    let scene = Scene::new();
    let leaf = scene.forge(|order| order.until = second(NOW + 10));
    let presented = presented(&leaf.chain);
    let trust = scene.trust(Some(scene.crls(&[], NOW + 5)), false);
    let at = |seconds| denial(presented.verdict(&trust, second(NOW + seconds)));
    assert_eq!((at(0), at(5)), (None, None));
    assert_eq!(at(6), Some(Denial::CertificateRevocationUnknown), "the list has expired");
    assert_eq!(at(11), Some(Denial::CertificateExpired));
    assert_eq!(at(0), None, "and when the clock is set back");
    let revoking = scene.trust(Some(scene.crls(&[&leaf], NOW + DAY)), false);
    let found = denial(presented.verdict(&revoking, second(NOW)));
    assert_eq!(found, Some(Denial::CertificateRevoked), "a new trust is asked at once");
}

#[test]
fn a_token_is_bound_by_the_thumbprint_of_the_leaf_alone() {
    let scene = Scene::new();
    let presented = presented(&scene.forge(|_| ()).chain);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[]);
    let other = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, hash);
    assert!(!presented.is(&other) && !presented.is(""));
    assert_eq!(presented.sha256().len(), 64);
}

#[test]
fn what_is_no_list_is_unusable_and_never_panics() {
    let scene = Scene::new();
    let pem = scene.pki.crl(&[], second(NOW), second(NOW + DAY)).unwrap();
    let der = rustls_pki_types::CertificateRevocationListDer::from_pem_slice(pem.as_bytes());
    let der = der.unwrap();
    assert_eq!(Crls::parse(&der).unwrap().len(), 1);
    assert_eq!(Crls::parse(pem.repeat(2).as_bytes()).unwrap().len(), 2);
    for text in ["", "garbage", scene.pki.root(), &pem[..pem.len() / 2]] {
        assert!(Crls::parse(text.as_bytes()).is_err(), "{text}");
    }
    for len in 0..der.len() {
        assert!(Crls::parse(&der[..len]).is_err(), "{len}");
    }
    for at in 0..der.len() {
        let mut altered = der.to_vec();
        altered[at] ^= 0xFF;
        let _ = Crls::parse(&altered);
    }
    assert!(Authorities::parse(b"").is_err() && Authorities::parse(pem.as_bytes()).is_err());
}
