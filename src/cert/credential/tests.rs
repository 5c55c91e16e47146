//! Chains and keys in every form that tools write them, and damaged ones.

use proptest::prelude::*;
use rstest::rstest;
use sitegate_forge::{Forged, LeafKey, Order, Pki};

use crate::clock::second;

use super::*;

const NOW: i64 = 1_800_000_000;

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn pki() -> Pki {
    Pki::new("Contoso", second(NOW)).unwrap()
}

fn forged(pki: &Pki) -> Forged {
    pki.issue(&Order::fit(&["mp01.contoso.com"], second(NOW))).unwrap()
}

fn parse(certificate: &str, key: &str) -> Result<Credential, Unfit> {
    Credential::parse(certificate.as_bytes(), Some(key.as_bytes()), Source::Pki, &provider())
        .map_err(|fault| fault.unfit)
}

/// Converts a key into another form with openssl.
fn openssl(arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[rstest]
#[case::as_it_comes(|f: &Forged, _: &Pki| (f.chain.clone(), f.key.to_string()))]
#[case::leaf_only(|f: &Forged, _: &Pki| (f.leaf.clone(), f.key.to_string()))]
#[case::crlf(|f: &Forged, _: &Pki| (f.chain.replace('\n', "\r\n"), f.key.replace('\n', "\r\n")))]
#[case::text_before(|f: &Forged, _: &Pki| (format!("Bag Attributes\n  friendlyName: mp01\n{}", f.chain), f.key.to_string()))]
#[case::byte_order_mark(|f: &Forged, _: &Pki| (format!("\u{feff}{}", f.chain), format!("\u{feff}{}", *f.key)))]
#[case::no_last_line_end(|f: &Forged, _: &Pki| (f.chain.trim_end().to_owned(), f.key.trim_end().to_owned()))]
#[case::reversed(|f: &Forged, p: &Pki| (format!("{}{}{}", p.root(), p.intermediate(), f.leaf), f.key.to_string()))]
#[case::unordered(|f: &Forged, p: &Pki| (format!("{}{}{}", p.intermediate(), f.leaf, p.root()), f.key.to_string()))]
#[case::twice(|f: &Forged, _: &Pki| (format!("{0}{0}", f.chain), f.key.to_string()))]
#[case::both_in_both_files(|f: &Forged, _: &Pki| (format!("{}{}", *f.key, f.chain), format!("{}{}", *f.key, f.chain)))]
#[case::sec1(|f: &Forged, _: &Pki| (f.chain.clone(), openssl(&["ec"], &f.key)))]
#[case::sec1_with_parameters(|f: &Forged, _: &Pki| (f.chain.clone(), format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}", openssl(&["ec"], &f.key))))]
fn every_usual_form_yields_the_leaf_first_and_its_key(
    #[case] form: fn(&Forged, &Pki) -> (String, String),
) {
    let pki = pki();
    let (certificate, key) = form(&forged(&pki), &pki);
    let credential = parse(&certificate, &key).unwrap();
    assert_eq!(credential.facts().dns, ["mp01.contoso.com"]);
    assert!(credential.certified_key().is_ok());
    let subjects: Vec<_> = credential.issuers().iter().map(|f| f.subject.as_str()).collect();
    assert!(["CN=Contoso Issuing CA", "CN=Contoso Root CA"].starts_with(&subjects), "{subjects:?}");
}

#[test]
fn an_rsa_key_is_read_as_pkcs8_and_as_pkcs1() {
    let order = Order { key: LeafKey::Rsa2048, ..Order::fit(&["mp01.contoso.com"], second(NOW)) };
    let forged = pki().issue(&order).unwrap();
    let pkcs1 = openssl(&["rsa", "-traditional"], &forged.key);
    assert!(pkcs1.contains("BEGIN RSA PRIVATE KEY"));
    for key in [forged.key.as_str(), &pkcs1] {
        let credential = parse(&forged.chain, key).unwrap();
        assert_eq!(
            (credential.facts().key, credential.facts().key_bits),
            (crate::cert::KeyKind::Rsa, 2048)
        );
        assert!(credential.certified_key().is_ok());
    }
}

#[test]
fn a_key_in_the_certificates_file_needs_no_file_of_its_own() {
    let forged = forged(&pki());
    let both = format!("{}{}", forged.chain, *forged.key);
    let credential = Credential::parse(both.as_bytes(), None, Source::Pki, &provider()).unwrap();
    assert!(credential.certified_key().is_ok());
}

#[test]
fn der_is_taken_for_certificate_and_key() {
    let forged = forged(&pki());
    let certificate = crate::cert::certificate_der(forged.leaf.as_bytes()).unwrap();
    let key = pem::private_key(forged.key.as_bytes()).unwrap();
    let credential =
        Credential::parse(&certificate, Some(key.secret_der()), Source::Pki, &provider()).unwrap();
    assert!(credential.certified_key().is_ok());
}

fn cut(text: &str, keep: usize) -> String {
    text.chars().take(keep).collect()
}

#[rstest]
#[case::empty_certificate(|f: &Forged| (String::new(), f.key.to_string()), Unfit::Incomplete)]
#[case::empty_key(|f: &Forged| (f.chain.clone(), "\n".into()), Unfit::Incomplete)]
#[case::half_a_certificate(|f: &Forged| (cut(&f.chain, 300), f.key.to_string()), Unfit::Incomplete)]
#[case::half_a_label(|f: &Forged| (cut(&f.chain, 20), f.key.to_string()), Unfit::Incomplete)]
#[case::half_a_second_certificate(|f: &Forged| (cut(&f.chain, f.leaf.len() + 200), f.key.to_string()), Unfit::Incomplete)]
#[case::half_a_key(|f: &Forged| (f.chain.clone(), cut(&f.key, 100)), Unfit::Incomplete)]
#[case::garbage_certificate(|f: &Forged| ("garbage\n".into(), f.key.to_string()), Unfit::Malformed)]
#[case::garbage_key(|f: &Forged| (f.chain.clone(), "garbage\n".into()), Unfit::Malformed)]
#[case::no_base64(|f: &Forged| (f.chain.replacen('M', "*", 1), f.key.to_string()), Unfit::Malformed)]
#[case::no_der(|f: &Forged| ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(), f.key.to_string()), Unfit::Malformed)]
#[case::public_key_only(|f: &Forged| (f.chain.clone(), openssl(&["pkey", "-pubout"], &f.key)), Unfit::Incomplete)]
#[case::certificate_for_a_key(|f: &Forged| (f.chain.clone(), f.leaf.clone()), Unfit::Incomplete)]
#[case::key_for_a_certificate(|f: &Forged| (f.key.to_string(), f.key.to_string()), Unfit::Incomplete)]
#[case::encrypted_pkcs8(|f: &Forged| (f.chain.clone(), openssl(&["pkcs8", "-topk8", "-passout", "pass:x"], &f.key)), Unfit::KeyEncrypted)]
#[case::encrypted_sec1(|f: &Forged| (f.chain.clone(), openssl(&["ec", "-aes128", "-passout", "pass:x"], &f.key)), Unfit::KeyEncrypted)]
fn what_is_not_a_whole_pair_is_refused_with_its_reason(
    #[case] form: fn(&Forged) -> (String, String),
    #[case] expected: Unfit,
) {
    let (certificate, key) = form(&forged(&pki()));
    assert_eq!(parse(&certificate, &key).err(), Some(expected));
}

#[test]
fn a_key_of_another_issue_is_known_as_such() {
    let pki = pki();
    let (old, new) = (forged(&pki), forged(&pki));
    let credential = parse(&new.chain, &old.key).unwrap();
    assert_eq!(credential.certified_key().err().map(|f| f.unfit), Some(Unfit::KeyMismatch));
    assert_eq!(credential.facts().dns, ["mp01.contoso.com"]);
}

#[test]
fn debug_output_shows_no_key() {
    let forged = forged(&pki());
    let shown = format!("{:?} {forged:?}", parse(&forged.chain, &forged.key).unwrap());
    let secret: Vec<_> = forged.key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(secret.iter().all(|line| !shown.contains(line)), "{shown}");
}

#[test]
fn thumbprints_are_those_that_openssl_shows() {
    let forged = forged(&pki());
    let credential = parse(&forged.chain, &forged.key).unwrap();
    for (name, ours) in
        [("-sha1", &credential.facts().sha1), ("-sha256", &credential.facts().sha256)]
    {
        let theirs = openssl(&["x509", "-noout", "-fingerprint", name], &forged.leaf);
        assert!(theirs.trim().replace(':', "").ends_with(ours.as_str()), "{theirs} {ours}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_the_parser_panic(certificate: Vec<u8>, key: Vec<u8>) {
        let _ = Credential::parse(&certificate, Some(&key), Source::Pki, &provider());
    }

    #[test]
    fn no_damage_to_a_pair_makes_the_parser_panic(flips in prop::collection::vec((0usize..4000, any::<u8>()), 1..4), keep in 0usize..4000) {
        thread_local! {
            static PAIR: Forged = forged(&pki());
        }
        PAIR.with(|pair| {
            let mut bytes = format!("{}{}", pair.chain, *pair.key).into_bytes();
            for (at, byte) in flips {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(keep);
            let _ = Credential::parse(&bytes, None, Source::Pki, &provider());
        });
    }

    #[test]
    fn no_damage_to_der_makes_the_reader_panic(flips in prop::collection::vec((0usize..700, any::<u8>()), 1..4)) {
        thread_local! {
            static DER: Vec<u8> = crate::cert::certificate_der(forged(&pki()).leaf.as_bytes()).unwrap().to_vec();
        }
        DER.with(|der| {
            let mut der = der.clone();
            for (at, byte) in flips {
                if let Some(place) = der.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = outline(&der);
        });
    }
}
