//! Every fault of a credential, alone and in combination.

use std::path::Path;
use std::process::Command;

use rstest::rstest;
use sitegate_forge::{Order, Pki, Usage, below_roots};

use crate::cert::Source;
use crate::clock::second;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const HOST: &str = "mp01.contoso.com";

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn hosts(names: &[&str]) -> Vec<ServerName<'static>> {
    names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect()
}

fn faults_of(chain: &str, key: &str, ca: &str, names: &[&str]) -> Vec<Unfit> {
    let provider = provider();
    let credential =
        Credential::parse(chain.as_bytes(), Some(key.as_bytes()), Source::Pki, &provider).unwrap();
    let anchors = Anchors::from_pem(ca.as_bytes()).unwrap();
    let expected = Expectation { hosts: &hosts(names), anchors: &anchors, provider: &provider };
    faults(&credential, &expected, second(NOW)).into_iter().map(|fault| fault.unfit).collect()
}

#[rstest]
#[case::fit(|_: &mut Order| (), vec![])]
#[case::on_its_last_second(|o: &mut Order| o.until = second(NOW), vec![])]
#[case::expired(|o: &mut Order| o.until = second(NOW - 1), vec![Unfit::Expired])]
#[case::not_yet(|o: &mut Order| o.from = second(NOW + 1), vec![Unfit::NotYetValid])]
#[case::wrong_name(|o: &mut Order| o.hosts = vec!["other.contoso.com".into()], vec![Unfit::NameMismatch])]
#[case::no_name(|o: &mut Order| o.hosts.clear(), vec![Unfit::NameMismatch])]
#[case::wildcard(|o: &mut Order| o.hosts = vec!["*.contoso.com".into()], vec![])]
#[case::wildcard_one_level_up(|o: &mut Order| o.hosts = vec!["*.com".into()], vec![Unfit::NameMismatch])]
#[case::wildcard_within_a_label(|o: &mut Order| o.hosts = vec!["mp*.contoso.com".into()], vec![Unfit::NameMismatch])]
#[case::client_auth(|o: &mut Order| o.usage = Usage::Client, vec![Unfit::UsageMismatch])]
#[case::no_usage(|o: &mut Order| o.usage = Usage::Unsaid, vec![Unfit::UsageMismatch])]
#[case::authority(|o: &mut Order| o.is_ca = true, vec![Unfit::IsAuthority])]
#[case::unknown_critical(|o: &mut Order| o.unknown_critical = true, vec![Unfit::CriticalUnknown])]
#[case::expired_for_another(|o: &mut Order| { o.until = second(NOW - 9); o.hosts.clear() }, vec![Unfit::Expired, Unfit::NameMismatch])]
fn a_leaf_is_judged_as_a_client_would(#[case] spoil: fn(&mut Order), #[case] expected: Vec<Unfit>) {
    let pki = Pki::new("Contoso", second(NOW - 365 * DAY)).unwrap();
    let mut order = Order::fit(&[HOST], second(NOW));
    spoil(&mut order);
    let forged = pki.issue(&order).unwrap();
    let found = faults_of(&forged.chain, &forged.key, pki.root(), &[HOST]);
    assert_eq!(found, expected);
}

#[test]
fn all_hosts_must_be_covered_short_names_and_addresses_too() {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let all = [HOST, "mp01", "192.0.2.7", "2001:db8::7"];
    let forged = pki.issue(&Order::fit(&all, second(NOW))).unwrap();
    assert_eq!(faults_of(&forged.chain, &forged.key, pki.root(), &all), []);
    let some = pki.issue(&Order::fit(&all[..2], second(NOW))).unwrap();
    assert_eq!(faults_of(&some.chain, &some.key, pki.root(), &all), [Unfit::NameMismatch]);
}

#[test]
fn a_chain_without_issuer_or_to_another_root_is_untrusted() {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let stranger = Pki::new("Fabrikam", second(NOW)).unwrap();
    let forged = pki.issue(&Order::fit(&[HOST], second(NOW))).unwrap();
    for (chain, ca) in
        [(&forged.leaf, pki.root()), (&forged.chain, stranger.root()), (&forged.chain, "")]
    {
        assert_eq!(faults_of(chain, &forged.key, ca, &[HOST]), [Unfit::Untrusted]);
    }
}

#[test]
fn an_expired_certificate_of_a_stranger_has_both_faults() {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let stranger = Pki::new("Fabrikam", second(NOW)).unwrap();
    let mut order = Order::fit(&[HOST], second(NOW));
    order.until = second(NOW - 1);
    let forged = pki.issue(&order).unwrap();
    let found = faults_of(&forged.chain, &forged.key, stranger.root(), &[HOST]);
    assert_eq!(found, [Unfit::Expired, Unfit::Untrusted]);
}

#[test]
fn name_constraints_of_an_authority_are_honoured() {
    let pki = Pki::constrained("Contoso", "contoso.com", second(NOW)).unwrap();
    let inside = pki.issue(&Order::fit(&[HOST], second(NOW))).unwrap();
    assert_eq!(faults_of(&inside.chain, &inside.key, pki.root(), &[HOST]), []);
    let outside = pki.issue(&Order::fit(&["mp01.fabrikam.com"], second(NOW))).unwrap();
    let found = faults_of(&outside.chain, &outside.key, pki.root(), &["mp01.fabrikam.com"]);
    assert_eq!(found, [Unfit::Constrained]);
}

#[test]
fn a_key_of_another_issue_is_the_first_fault() {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let mut order = Order::fit(&[HOST], second(NOW));
    order.until = second(NOW - 1);
    let (old, new) = (pki.issue(&order).unwrap(), pki.issue(&order).unwrap());
    let found = faults_of(&new.chain, &old.key, pki.root(), &[HOST]);
    assert_eq!(found, [Unfit::KeyMismatch, Unfit::Expired]);
}

#[test]
fn a_root_counts_within_its_dates_and_any_of_its_issues_will_do() {
    let span = |from: i64, until: i64| (second(NOW + from * DAY), second(NOW + until * DAY));
    let (old, new, next) = (span(-900, -1), span(-30, 900), span(1, 900));
    let forged = below_roots(&[old, new, next], &Order::fit(&[HOST], second(NOW))).unwrap();
    let (roots, leaf) = forged;
    let [old, new, next] = [&roots[0], &roots[1], &roots[2]];
    for (ca, expected) in [
        (old.clone(), vec![Unfit::Expired]),
        (next.clone(), vec![Unfit::NotYetValid]),
        (new.clone(), vec![]),
        (format!("{old}{new}{next}"), vec![]),
        (format!("{next}{old}"), vec![Unfit::NotYetValid]),
    ] {
        assert_eq!(faults_of(&leaf.chain, &leaf.key, &ca, &[HOST]), expected);
    }
    let told = |ca: &str| {
        let provider = provider();
        let key = Some(leaf.key.as_bytes());
        let credential =
            Credential::parse(leaf.chain.as_bytes(), key, Source::Pki, &provider).unwrap();
        let anchors = Anchors::from_pem(ca.as_bytes()).unwrap();
        let expected =
            Expectation { hosts: &hosts(&[HOST]), anchors: &anchors, provider: &provider };
        let fault = check(&credential, &expected, second(NOW)).err();
        let moments: Vec<_> = anchors.moments(&credential).map(|m| m.as_second() - NOW).collect();
        let ending = anchors.ending(&credential, second(NOW));
        (fault.map(|fault| fault.detail), moments, ending.map(|(name, _)| name))
    };
    let (fault, moments, _) = told(old);
    let fault = fault.unwrap();
    assert!(
        fault.starts_with("its root CN=Reissued Root CA was valid until 2027-01-14"),
        "{fault}"
    );
    assert_eq!(moments, [-900 * DAY, -DAY + 1]);
    assert_eq!(told(new), (None, vec![-30 * DAY, 900 * DAY + 1], None));
}

#[test]
fn an_authority_is_warned_of_before_it_ends() {
    let span = |until: i64| (second(NOW - DAY), second(NOW + until * DAY));
    let order = Order::fit(&[HOST], second(NOW));
    let (roots, leaf) = below_roots(&[span(30), span(31)], &order).unwrap();
    let provider = provider();
    let key = Some(leaf.key.as_bytes());
    let credential = Credential::parse(leaf.chain.as_bytes(), key, Source::Pki, &provider).unwrap();
    let ending = |ca: &str, now| {
        let anchors = Anchors::from_pem(ca.as_bytes()).unwrap();
        anchors.ending(&credential, second(now)).map(|(name, _)| name)
    };
    let name = Some("CN=Reissued Root CA".to_owned());
    assert_eq!(ending(&roots[0], NOW), name);
    assert_eq!(ending(&roots[0], NOW - 1), None);
    assert_eq!(ending(&roots.concat(), NOW), None, "another of its name ends later");
    assert_eq!(ending(&roots.concat(), NOW + DAY), name);
    assert_eq!(ending(&roots[0], NOW + 31 * DAY), None, "that is a fault, no warning");
    assert_eq!(ending(Pki::new("Other", second(NOW)).unwrap().root(), NOW), None);
}

/// A self-signed certificate as an operator creates it with openssl.
fn self_signed(dir: &Path, kind: &[&str]) -> (String, String) {
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=mp01.contoso.com"])
        .args(["-addext", "subjectAltName=DNS:mp01.contoso.com"])
        .args(["-addext", "extendedKeyUsage=serverAuth"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(kind)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (std::fs::read_to_string(certificate).unwrap(), std::fs::read_to_string(key).unwrap())
}

#[rstest]
#[case::p256(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], None)]
#[case::p384(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"], None)]
#[case::rsa_2048(&["-newkey", "rsa:2048"], None)]
#[case::rsa_1024(&["-newkey", "rsa:1024"], Some(Unfit::KeyWeak))]
#[case::secp256k1(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"], Some(Unfit::KeyWeak))]
#[case::ed25519(&["-newkey", "ed25519"], Some(Unfit::KeyWeak))]
#[case::sha1(&["-newkey", "rsa:2048", "-sha1"], Some(Unfit::SignatureWeak))]
#[case::pss_sha256(&["-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"], None)]
#[case::no_authority_at_all(&["-newkey", "rsa:2048", "-addext", "keyUsage=digitalSignature"], None)]
#[case::encipher_only(&["-newkey", "rsa:2048", "-addext", "keyUsage=keyEncipherment"], Some(Unfit::UsageMismatch))]
fn a_self_signed_certificate_is_judged_by_its_strength(
    #[case] kind: &[&str],
    #[case] expected: Option<Unfit>,
) {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = self_signed(dir.path(), kind);
    let provider = provider();
    let credential =
        Credential::parse(certificate.as_bytes(), Some(key.as_bytes()), Source::Pki, &provider)
            .unwrap();
    let anchors = Anchors::from_pem(certificate.as_bytes()).unwrap();
    let expectation =
        Expectation { hosts: &hosts(&[HOST]), anchors: &anchors, provider: &provider };
    let now = credential.facts().not_before;
    assert_eq!(check(&credential, &expectation, now).err().map(|fault| fault.unfit), expected);
}
