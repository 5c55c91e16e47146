//! The site's certificates, read back as clients read them.

use jiff::SignedDuration;
use rustls::crypto::CryptoProvider;

use crate::cert::{Anchors, Credential, Expectation, Source, faults, p7b};
use crate::clock::second;

use super::*;

const NOW: i64 = 1_800_000_000;

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn hosts(names: &[&str]) -> Vec<ServerName<'static>> {
    names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect()
}

struct Site {
    root: Pair,
    role: Signer,
}

fn site(permitted: &[&str], algorithm: CertAlgorithm) -> Site {
    let scope = Scope::new(permitted).unwrap();
    let root = root("PS1", 1, &scope, algorithm, second(NOW)).unwrap();
    let signer = Signer::load(&root.certificate, &root.key).unwrap();
    let role = signer.role(&scope, algorithm, second(NOW)).unwrap();
    let role = Signer::load(&role.certificate, &role.key).unwrap();
    Site { root, role }
}

fn leaf(site: &Site, names: &[&str]) -> (Pair, Vec<Unfit>) {
    let hosts = hosts(names);
    let pair = site.role.leaf("mp01", &hosts, CertAlgorithm::P256, second(NOW)).unwrap();
    let provider = provider();
    let credential = Credential::parse(
        pair.certificate.as_bytes(),
        Some(pair.key.as_bytes()),
        Source::SiteIssued,
        &provider,
    )
    .unwrap();
    let anchors = Anchors::from_pem(site.root.certificate.as_bytes()).unwrap();
    let expected = Expectation { hosts: &hosts, anchors: &anchors, provider: &provider };
    let found = faults(&credential, &expected, second(NOW));
    (pair, found.into_iter().map(|fault| fault.unfit).collect())
}

#[test]
fn issued_certificates_are_fit_only_within_the_name_constraints() {
    let permitted = ["contoso.com", "mp01", "10.0.0.0/8", "2001:db8::7"];
    for algorithm in [CertAlgorithm::P256, CertAlgorithm::Rsa2048] {
        let site = site(&permitted, algorithm);
        for inside in ["mp01.contoso.com", "contoso.com", "mp01", "10.1.2.3", "2001:db8::7"] {
            assert_eq!(leaf(&site, &[inside]).1, [], "{inside}");
        }
        for outside in ["mp01.fabrikam.com", "mp02", "notcontoso.com", "192.0.2.1", "2001:db8::8"] {
            assert_eq!(leaf(&site, &[outside]).1, [Unfit::Constrained], "{outside}");
            assert_eq!(leaf(&site, &["mp01", outside]).1, [Unfit::Constrained], "{outside}");
        }
    }
}

#[test]
fn a_kind_of_name_that_is_not_listed_is_forbidden() {
    let names_only = site(&["contoso.com"], CertAlgorithm::P256);
    assert_eq!(leaf(&names_only, &["10.1.2.3"]).1, [Unfit::Constrained]);
    assert_eq!(leaf(&names_only, &["2001:db8::7"]).1, [Unfit::Constrained]);
    let addresses_only = site(&["10.0.0.0/8"], CertAlgorithm::P256);
    assert_eq!(leaf(&addresses_only, &["10.1.2.3"]).1, []);
    assert_eq!(leaf(&addresses_only, &["2001:db8::7"]).1, [Unfit::Constrained]);
    assert_eq!(leaf(&addresses_only, &["mp01.contoso.com"]).1, [Unfit::Constrained]);
    assert!(Scope::new::<&str>(&[]).is_err());
    assert!(Scope::new(&["."]).is_err());
}

#[test]
fn openssl_reads_a_list_and_refuses_what_is_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let site = site(&["contoso.com"], CertAlgorithm::P256);
    let (pair, _) = leaf(&site, &["mp01.contoso.com"]);
    let serial = Facts::of_pem(&pair.certificate).unwrap().serial;
    let revoked = [Revocation {
        serial: serial.clone(),
        reason: RevocationReason::KeyCompromise,
        at: second(NOW),
    }];
    let root = Signer::load(&site.root.certificate, &site.root.key).unwrap();
    let life = SignedDuration::from_hours(24);
    let own = root.crl(&[], 7, life, second(NOW)).unwrap();
    assert_eq!(root.own_crl(&own).unwrap().serials, [""; 0]);
    assert_eq!(site.role.own_crl(&own), None, "the list of another");
    std::fs::write(path("ca.crt"), format!("{}{}", site.root.certificate, site.role.certificate()))
        .unwrap();
    std::fs::write(path("leaf.crt"), &pair.certificate).unwrap();
    for (revoked, told) in [(&revoked[..0], "OK"), (&revoked[..], "certificate revoked")] {
        let list = site.role.crl(revoked, 1_800_000_000, life, second(NOW)).unwrap();
        let read = site.role.own_crl(&list).unwrap();
        assert_eq!((read.number, read.this_update), (1_800_000_000, second(NOW)));
        assert_eq!(read.serials.len(), revoked.len());
        std::fs::write(
            path("lists.pem"),
            format!("{}{}", pem("X509 CRL", &list), pem("X509 CRL", &own)),
        )
        .unwrap();
        let output = std::process::Command::new("openssl")
            .args(["verify", "-x509_strict", "-crl_check_all", "-attime", &NOW.to_string()])
            .args(["-CAfile", path("ca.crt").to_str().unwrap()])
            .args(["-CRLfile", path("lists.pem").to_str().unwrap()])
            .arg(path("leaf.crt"))
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn issued_certificates_have_a_crl_url_only_if_it_is_known() {
    let site = site(&["contoso.com"], CertAlgorithm::P256);
    let (plain, _) = leaf(&site, &["mp01.contoso.com"]);
    let points =
        Points { crl: "http://x/role.crl".into(), certificate: "http://x/role.cer".into() };
    let site = Site { role: site.role.publishing(Some(points)), ..site };
    let (pointing, faults) = leaf(&site, &["mp01.contoso.com"]);
    assert_eq!(faults, []);
    let holds = |pair: &Pair, text: &str| {
        let der = certificate_der(pair.certificate.as_bytes()).unwrap();
        der.windows(text.len()).any(|window| window == text.as_bytes())
    };
    for url in ["http://x/role.crl", "http://x/role.cer"] {
        assert!(holds(&pointing, url) && !holds(&plain, url), "{url}");
    }
}

#[test]
fn openssl_accepts_the_chain_and_reads_the_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let site = site(&["contoso.com", "10.0.0.0/8"], CertAlgorithm::P256);
    std::fs::write(path("root.crt"), &site.root.certificate).unwrap();
    std::fs::write(path("role.crt"), site.role.certificate()).unwrap();
    for names in [&["mp01.contoso.com", "10.1.2.3"][..], &["10.1.2.3"]] {
        std::fs::write(path("leaf.crt"), leaf(&site, names).0.certificate).unwrap();
        let output = std::process::Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver", "-attime", &NOW.to_string()])
            .args(["-CAfile", path("root.crt").to_str().unwrap()])
            .args(["-untrusted", path("role.crt").to_str().unwrap()])
            .arg(path("leaf.crt"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let der = certificate_der(site.root.certificate.as_bytes()).unwrap();
    std::fs::write(path("root.p7b"), p7b(&[der])).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["pkcs7", "-inform", "DER", "-print_certs", "-in"])
        .arg(path("root.p7b"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let body = |pem: &str| pem.lines().skip_while(|l| !l.contains("BEGIN")).collect::<String>();
    assert_eq!(body(&text), body(&site.root.certificate));
    assert!(text.contains("SMS Issuing") && text.contains("PS1 2027-01-15"), "{text}");
}

#[test]
fn basic_constraints_precede_name_constraints() {
    let site = site(&["contoso.com", "10.0.0.0/8"], CertAlgorithm::P256);
    for pem in [&site.root.certificate, site.role.certificate()] {
        let der = certificate_der(pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names: Vec<String> = parsed.iter_extensions().map(|e| e.oid.to_id_string()).collect();
        let at = |oid: &str| names.iter().position(|name| name == oid).unwrap();
        let (basic, constraints) = ("2.5.29.19", "2.5.29.30");
        assert!(at(basic) < at(constraints), "{names:?}");
        assert!(parsed.iter_extensions().nth(at(constraints)).unwrap().critical);
    }
}

#[test]
fn nothing_outlives_the_authority_above_it() {
    let site = site(&["contoso.com"], CertAlgorithm::P256);
    let late = second(NOW + 1826 * DAY - 10 * DAY);
    let pair =
        site.role.leaf("mp01", &hosts(&["mp01.contoso.com"]), CertAlgorithm::P256, late).unwrap();
    let facts = outline(&certificate_der(pair.certificate.as_bytes()).unwrap()).unwrap().facts;
    assert_eq!(facts.not_after, site.role.facts().not_after);
}

#[test]
fn renewal_is_due_at_two_thirds_of_life() {
    let site = site(&["contoso.com"], CertAlgorithm::P256);
    let pair = leaf(&site, &["mp01.contoso.com"]).0;
    let facts = outline(&certificate_der(pair.certificate.as_bytes()).unwrap()).unwrap().facts;
    assert!(!facts.renewal_due(second(NOW + 59 * DAY)));
    assert!(facts.renewal_due(second(NOW + 60 * DAY)));
}

#[test]
fn a_key_and_a_certificate_of_two_authorities_do_not_load() {
    let (a, b) =
        (site(&["a.example"], CertAlgorithm::P256), site(&["a.example"], CertAlgorithm::P256));
    let mixed = Signer::load(&a.root.certificate, &b.root.key);
    assert_eq!(mixed.err().map(|fault| fault.unfit), Some(Unfit::KeyMismatch));
}

#[test]
fn a_reissued_root_still_matches_its_key() {
    let scope = Scope::new(&["contoso.com"]).unwrap();
    let first = root("PS1", 1, &scope, CertAlgorithm::P256, second(NOW)).unwrap();
    let again = root_of(&first.key, "PS1", &scope, second(NOW)).unwrap();
    assert!(Signer::load(&again.certificate, &first.key).is_ok());
}
