//! Backend certificates, trusted by roots and pinned.

use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use sitegate_forge::{Order, Pki, Usage, below_roots};

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const HOST: &str = "mp01.contoso.com";

fn verify(ca: &str, chain: &str, host: &str, now: i64) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let anchors = Anchors::from_pem(ca.as_bytes()).unwrap();
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now as u64));
    let verifier = BackendVerifier { anchors, provider };
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).map(|_| ())
}

fn refused(why: CertificateError) -> Result<(), Error> {
    Err(Error::InvalidCertificate(why))
}

#[test]
fn a_root_vouches_within_its_dates_and_a_stranger_never() {
    let span = |from: i64, until: i64| (second(NOW + from), second(NOW + until));
    let order = Order::fit(&[HOST], second(NOW));
    let (roots, leaf) = below_roots(&[span(-DAY, DAY), span(-DAY, -1)], &order).unwrap();
    assert_eq!(verify(&roots[0], &leaf.chain, HOST, NOW), Ok(()));
    assert_eq!(verify(&roots.concat(), &leaf.chain, HOST, NOW), Ok(()));
    let expired = verify(&roots[1], &leaf.chain, HOST, NOW).unwrap_err().to_string();
    assert!(expired.contains("Expired"), "{expired}");
    let other = Pki::new("Fabrikam", second(NOW)).unwrap();
    let unknown = refused(CertificateError::UnknownIssuer);
    assert_eq!(verify(other.root(), &leaf.chain, HOST, NOW), unknown);
    assert_eq!(verify("", &leaf.chain, HOST, NOW), unknown);
    assert!(verify(&roots[0], &leaf.chain, "other.contoso.com", NOW).is_err());
}

/// A certificate as `openssl req -x509` makes it: self-signed, a CA, with a name.
fn own(change: impl FnOnce(&mut rcgen::CertificateParams)) -> String {
    let mut params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds as u64);
    (params.not_before, params.not_after) = (at(NOW - DAY), at(NOW + DAY));
    change(&mut params);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

#[test]
fn a_pinned_certificate_is_judged_by_dates_names_and_usage() {
    let authority = own(|_| ());
    assert_eq!(verify(&authority, &authority, HOST, NOW), Ok(()));
    assert_eq!(
        verify(&authority, &authority, HOST, NOW + 2 * DAY),
        refused(CertificateError::Expired)
    );
    assert_eq!(
        verify(&authority, &authority, HOST, NOW - 2 * DAY),
        refused(CertificateError::NotValidYet)
    );
    assert!(verify(&authority, &authority, "other.contoso.com", NOW).is_err());
    let other = own(|_| ());
    assert!(verify(&authority, &other, HOST, NOW).is_err(), "of the same names, by another key");
    let leaf = own(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    assert_eq!(verify(&leaf, &leaf, HOST, NOW), Ok(()));
    let client = own(|params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(verify(&client, &client, HOST, NOW), refused(CertificateError::InvalidPurpose));
    let nameless = own(|params| params.subject_alt_names.clear());
    assert!(verify(&nameless, &nameless, HOST, NOW).is_err());
    // A leaf of a PKI may be pinned as well; it vouches for no other certificate.
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let order = Order { usage: Usage::Server, ..Order::fit(&[HOST], second(NOW)) };
    let (one, two) = (pki.issue(&order).unwrap(), pki.issue(&order).unwrap());
    assert_eq!(verify(&one.leaf, &one.chain, HOST, NOW), Ok(()));
    assert!(verify(&one.leaf, &two.chain, HOST, NOW).is_err());
}
