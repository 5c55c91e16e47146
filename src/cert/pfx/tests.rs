//! PFX files as exporters write them, truncated and damaged ones, and ones that demand too much
//! work.

use std::process::Command;

use rstest::rstest;
use sitegate_forge::{Forged, Order, Pki, Protection, pfx};

use crate::clock::second;

use super::*;

const NOW: i64 = 1_800_000_000;
const HOST: &str = "mp01.contoso.com";
const ROUNDS: u32 = 4;

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn forged() -> (Pki, Forged) {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let forged = pki.issue(&Order::fit(&[HOST], second(NOW))).unwrap();
    (pki, forged)
}

fn whole(pki: &Pki, forged: &Forged) -> String {
    format!("{}{}", forged.chain, pki.root())
}

fn opened(der: &[u8], password: &str) -> Result<OpenedPfx, CredentialFault> {
    open(der, password, Source::Pki, &provider())
}

fn unfit(der: &[u8], password: &str) -> Option<Unfit> {
    opened(der, password).err().map(|fault| fault.unfit)
}

#[rstest]
#[case::modern(Protection::Modern, "correct horse")]
#[case::legacy(Protection::Legacy, "correct horse")]
#[case::empty(Protection::Modern, "")]
#[case::umlauts(Protection::Modern, "Schlüssel für мп01")]
#[case::umlauts_in_old_form(Protection::Legacy, "Schlüssel für мп01")]
fn leaf_chain_key_and_root_come_out_and_belong_together(
    #[case] protection: Protection,
    #[case] password: &str,
) {
    let (pki, forged) = forged();
    let parts = (&*whole(&pki, &forged), &**forged.key);
    let der = pfx(parts, password, protection, ROUNDS).unwrap();
    let opened = opened(&der, password).unwrap();
    assert_eq!(opened.credential.chain().len(), 3, "leaf, issuing authority, root");
    assert!(opened.credential.certified_key().is_ok());
    assert!(opened.anchors.is_some());
    assert_eq!(unfit(&der, "wrong"), Some(Unfit::PasswordWrong));
}

#[test]
fn a_pfx_is_anchored_at_the_topmost_authority_it_contains() {
    let (pki, forged) = forged();
    let anchors = |certificates: &str| {
        let file = pfx((certificates, &forged.key), "", Protection::Modern, ROUNDS).unwrap();
        let anchors = opened(&file, "").unwrap().anchors.unwrap();
        anchors.iter().map(|anchor| anchor.subject().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(anchors(&whole(&pki, &forged)), ["CN=Contoso Root CA"]);
    assert_eq!(anchors(&forged.chain), ["CN=Contoso Issuing CA"]);
}

#[test]
fn a_leaf_without_authorities_brings_no_anchors() {
    let (_, forged) = forged();
    let der = pfx((&forged.leaf, &forged.key), "x", Protection::Modern, ROUNDS).unwrap();
    assert!(opened(&der, "x").unwrap().anchors.is_none());
}

#[test]
fn a_truncated_or_altered_pfx_is_refused_without_a_panic() {
    let (pki, forged) = forged();
    let parts = (&*whole(&pki, &forged), &**forged.key);
    let der = pfx(parts, "x", Protection::Modern, ROUNDS).unwrap();
    for len in 0..der.len() {
        assert!(opened(&der[..len], "x").is_err(), "{len} bytes");
    }
    for at in 0..der.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut altered = der.clone();
            altered[at] ^= flip;
            if let Ok(opened) = opened(&altered, "x") {
                // The bytes outside the MAC are only the file's framing.
                assert!(opened.credential.certified_key().is_ok(), "byte {at}");
            }
        }
    }
    assert_eq!(unfit(b"", "x"), Some(Unfit::Malformed));
    assert_eq!(unfit(forged.chain.as_bytes(), "x"), Some(Unfit::Malformed));
}

#[test]
fn what_would_take_for_ever_is_refused_before_it_is_begun() {
    let (_, forged) = forged();
    let der = pfx((&forged.leaf, &forged.key), "x", Protection::Modern, 100_000).unwrap();
    assert!(opened(&der, "x").is_ok());
    // The three iteration counts: MAC, certificates, key. DER: 02 03 01 86 A0.
    let places: Vec<usize> = (0..=der.len() - 5)
        .filter(|at| der[*at..].starts_with(&[0x02, 0x03, 0x01, 0x86, 0xA0]))
        .collect();
    assert_eq!(places.len(), 3);
    for at in places {
        let mut forged = der.clone();
        forged[at + 2..at + 5].copy_from_slice(&[0x7F, 0xFF, 0xFF]);
        let fault = opened(&forged, "x").err().unwrap();
        assert_eq!(fault.unfit, Unfit::PfxProtection, "{fault}");
        assert!(fault.detail.contains("rounds"), "{fault}");
    }
}

#[test]
fn a_pfx_over_the_size_limit_is_not_opened() {
    let (pki, forged) = forged();
    let chain = |others: usize| {
        let authorities: String = (0..others)
            .map(|_| Pki::new("Contoso", second(NOW)).unwrap().root().to_owned())
            .collect();
        format!("{}{}{authorities}", forged.chain, pki.root())
    };
    let long = pfx((&chain(30), &forged.key), "x", Protection::Modern, ROUNDS).unwrap();
    assert!(opened(&long, "x").is_ok(), "{} bytes", long.len());
    let longer = pfx((&chain(160), &forged.key), "x", Protection::Modern, ROUNDS).unwrap();
    assert!(longer.len() > LEN_MAX, "{} bytes", longer.len());
    assert_eq!(unfit(&longer, "x"), Some(Unfit::PfxProtection));
}

#[test]
fn scrypt_is_known_by_its_form_and_refused() {
    // SEQUENCE { SEQUENCE { salt, N, r, p } }
    let params = [0x30, 0x0D, 0x04, 0x02, 1, 2, 0x02, 0x01, 16, 0x02, 0x01, 8, 0x02, 0x01, 1];
    let mut der = vec![0x30, params.len() as u8];
    der.extend(params);
    assert_eq!(unfit(&der, "x"), Some(Unfit::PfxProtection));
}

/// Cross-check: exports by OpenSSL open, in its modern and its legacy forms.
#[test]
fn what_openssl_exports_opens() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, forged) = forged();
    std::fs::write(dir.path().join("key"), &*forged.key).unwrap();
    std::fs::write(dir.path().join("crt"), whole(&pki, &forged)).unwrap();
    for form in [
        &["-keypbe", "AES-256-CBC", "-certpbe", "AES-256-CBC"][..],
        &["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
        &["-legacy"],
        &["-nomac"],
        &["-keypbe", "NONE", "-certpbe", "NONE"],
    ] {
        for password in ["secret", ""] {
            let der = Command::new("openssl")
                .args(["pkcs12", "-export", "-in", "crt", "-inkey", "key", "-name", "mp01"])
                .args(["-passout", &format!("pass:{password}")])
                .args(form)
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(der.status.success(), "{}", String::from_utf8_lossy(&der.stderr));
            let opened = opened(&der.stdout, password);
            let opened = opened.unwrap_or_else(|fault| panic!("{form:?} '{password}': {fault}"));
            assert!(opened.credential.certified_key().is_ok());
        }
    }
}

#[test]
fn encrypted_bytes_that_look_like_a_salt_and_a_number_are_none() {
    // SEQUENCE { OCTET STRING { an empty OCTET STRING, an INTEGER of nine bytes } }
    let encrypted = [4, 0, 2, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let mut der = vec![0x30, 15, 4, 13];
    der.extend(encrypted);
    assert_eq!(bounded(&der), Ok(()));
    // The same in a sequence that fills the string is the form that exporters write.
    let mut der = vec![0x30, 17, 4, 15, 0x30, 13];
    der.extend(encrypted);
    assert_eq!(bounded(&der).map_err(|fault| fault.unfit), Err(Unfit::PfxProtection));
}
