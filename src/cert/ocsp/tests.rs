//! OCSP responses for this certificate and for others, current and expired.

use sitegate_forge::{Forged, Order, Pki};

use crate::cert::Source;

use super::*;

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

struct Scene {
    pki: Pki,
    leaf: Forged,
}

impl Scene {
    fn new() -> Scene {
        let pki = Pki::new("Contoso", second(NOW)).unwrap();
        let leaf = pki.issue(&Order::fit(&["mp01.contoso.com"], second(NOW))).unwrap();
        Scene { pki, leaf }
    }

    fn response(&self, leaf: &Forged, revoked: bool) -> Vec<u8> {
        self.pki.ocsp(leaf, revoked, (second(NOW - HOUR), second(NOW + HOUR))).unwrap()
    }

    fn read(&self, chain: &str, anchors: &str, der: &[u8]) -> Result<Staple, Unstapled> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = Some(self.leaf.key.as_bytes());
        let credential = Credential::parse(chain.as_bytes(), key, Source::Pki, &provider).unwrap();
        let anchors = Anchors::from_pem(anchors.as_bytes()).unwrap();
        Staple::read(der, &credential, &anchors, &provider)
    }
}

#[test]
fn an_ocsp_response_is_valid_from_its_update_to_the_next() {
    let scene = Scene::new();
    let der = scene.response(&scene.leaf, false);
    for (chain, anchors) in [
        (&scene.leaf.chain, scene.pki.root()),
        // The issuer is only among the anchors.
        (&scene.leaf.leaf, scene.pki.intermediate()),
    ] {
        let staple = scene.read(chain, anchors, &der).unwrap();
        assert_eq!((&*staple.der, staple.revoked), (&*der, false));
        for (at, holds) in [(-HOUR - 1, false), (-HOUR, true), (HOUR - 1, true), (HOUR, false)] {
            assert_eq!(staple.holds(second(NOW + at)).is_ok(), holds, "{at}");
        }
    }
    assert!(scene.read(&scene.leaf.leaf, scene.pki.root(), &der).is_err(), "no issuer at hand");
}

#[test]
fn a_revocation_is_read_and_never_stapled() {
    let scene = Scene::new();
    let der = scene.response(&scene.leaf, true);
    let staple = scene.read(&scene.leaf.chain, scene.pki.root(), &der).unwrap();
    assert!(staple.revoked && staple.holds(second(NOW)).is_err());
}

#[test]
fn an_ocsp_response_for_another_leaf_or_issuer_is_refused() {
    let (scene, other) = (Scene::new(), Scene::new());
    let neighbour = scene.pki.issue(&Order::fit(&["dp01.contoso.com"], second(NOW))).unwrap();
    for der in [
        scene.response(&neighbour, false),
        other.response(&other.leaf, false),
        other.response(&scene.leaf, false),
    ] {
        assert!(scene.read(&scene.leaf.chain, scene.pki.root(), &der).is_err());
    }
}

#[test]
fn an_altered_response_changes_no_verdict_and_never_panics() {
    let scene = Scene::new();
    let der = scene.response(&scene.leaf, false);
    let whole = scene.read(&scene.leaf.chain, scene.pki.root(), &der).unwrap();
    for len in 0..der.len() {
        assert!(scene.read(&scene.leaf.chain, scene.pki.root(), &der[..len]).is_err());
    }
    for at in 0..der.len() {
        let mut altered = der.clone();
        altered[at] ^= 0x01;
        if let Ok(read) = scene.read(&scene.leaf.chain, scene.pki.root(), &altered) {
            let dates = (read.this_update, read.next_update, read.revoked);
            assert_eq!(dates, (whole.this_update, whole.next_update, whole.revoked), "{at}");
        }
    }
}

/// Cross-check against OpenSSL's responder, with a delegated responder certificate.
#[test]
fn openssls_delegated_ocsp_responder_needs_the_ocsp_usage() {
    // The simplest CA that openssl's responder works with, also made by openssl.
    let script = r#"
set -eu
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -subj /CN=CA -days 2 -out ca.pem 2>/dev/null
for n in leaf good bad; do
  openssl ecparam -name prime256v1 -genkey -noout -out $n.key
  openssl req -new -key $n.key -subj /CN=$n -out $n.csr 2>/dev/null
done
echo 'extendedKeyUsage=OCSPSigning' > good.ext; echo 'extendedKeyUsage=serverAuth' > bad.ext; cp bad.ext leaf.ext
s=100
for n in leaf good bad; do s=$((s+1)); openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -set_serial $s -days 2 -extfile $n.ext -out $n.pem 2>/dev/null; done
printf 'V\t400101000000Z\t\t65\tunknown\t/CN=leaf\n' > index.txt
openssl ocsp -issuer ca.pem -cert leaf.pem -reqout req.der -no_nonce >/dev/null 2>&1
for n in ca good bad; do
  openssl ocsp -index index.txt -CA ca.pem -rsigner $n.pem -rkey $n.key -reqin req.der -respout $n.der -ndays 1 >/dev/null 2>&1
done
"#;
    let dir = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("bash")
        .args(["-c", script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let parse =
        Credential::parse(&read("leaf.pem"), Some(&read("leaf.key")), Source::Pki, &provider);
    let (credential, anchors) = (parse.unwrap(), Anchors::from_pem(&read("ca.pem")).unwrap());
    let judged = |name: &str| Staple::read(&read(name), &credential, &anchors, &provider);
    assert!(judged("ca.der").is_ok_and(|staple| !staple.revoked));
    assert!(judged("good.der").is_ok_and(|staple| !staple.revoked));
    assert_eq!(judged("bad.der").err(), Some("not signed by the issuer or its responder"));
}
