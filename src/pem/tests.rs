//! Files that are concatenated, truncated, converted and exported.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::cert::p7b;

/// A certificate, as PEM and as DER.
fn certificate(name: &str) -> (String, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let made = params.self_signed(&key).unwrap();
    (made.pem(), made.der().to_vec())
}

fn labelled(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

fn bytes(found: &[CertificateDer<'_>]) -> Vec<Vec<u8>> {
    found.iter().map(|der| der.to_vec()).collect()
}

#[test]
fn two_certificates_are_two_however_they_are_joined() {
    let ((a, a_der), (b, b_der)) = (certificate("a"), certificate("b"));
    let both = [CertificateDer::from(a_der.as_slice()), CertificateDer::from(b_der.as_slice())];
    let message = p7b(&both);
    let one_line = |pem: &str| pem.lines().collect::<String>();
    let files: Vec<Vec<u8>> = vec![
        format!("{a}{b}").into(),
        // Files concatenated without final newlines.
        format!("{}{b}", a.trim_end()).into(),
        format!("{}{}", a.trim_end(), b.trim_end()).into(),
        format!("{}{}", one_line(&a), one_line(&b)).into(),
        format!("{}\r\n{}", one_line(&a), one_line(&b)).into(),
        format!("Bag Attributes\n    friendlyName: a\n{a}subject=CN = b\n{b}\u{1a}\0").into(),
        format!("{a}{b}").replace('\n', "\r\n").into(),
        format!("{a}{b}").replace('\n', "\r").into(),
        format!("{a}{b}").replace('\n', " \n").into(),
        format!("\u{feff}{a}\u{feff}{b}").into(),
        utf16(&format!("{a}{b}")),
        format!("a: {a} b: {b}").into(),
        a.replace("CERTIFICATE", "X509 CERTIFICATE")
            .into_bytes()
            .into_iter()
            .chain(b.bytes())
            .collect(),
        message.clone(),
        labelled("PKCS7", &message).into(),
        labelled("CMS", &message).into(),
        // AD CS.
        labelled("CERTIFICATE", &message).into(),
        utf16(&labelled("CERTIFICATE", &message)),
    ];
    for file in files {
        let found = certificates(&file).unwrap();
        assert_eq!(
            bytes(&found),
            [a_der.clone(), b_der.clone()],
            "{}",
            String::from_utf8_lossy(&file)
        );
    }
    assert_eq!(bytes(&certificates(&a_der).unwrap()), [a_der]);
}

#[test]
fn a_file_that_is_cut_anywhere_in_a_section_is_refused() {
    let ((a, a_der), (b, _)) = (certificate("a"), certificate("b"));
    for joint in ["\n", ""] {
        let whole = format!("{}{joint}{}", a.trim_end(), b.trim_end());
        let first = a.trim_end().len() + joint.len();
        for end in 0..whole.len() {
            let found = certificates(&whole.as_bytes()[..end]);
            let begun = if end <= first { end } else { end - first };
            match (end >= a.trim_end().len(), begun) {
                // Fewer dashes are text, like everything between sections.
                (true, 0..5) => {
                    assert_eq!(bytes(&found.unwrap()), std::slice::from_ref(&a_der), "{end}")
                }
                (true, _) if end <= first => {
                    assert_eq!(bytes(&found.unwrap()), std::slice::from_ref(&a_der))
                }
                (false, 0..5) => assert!(found.unwrap().is_empty()),
                _ => assert!(found.is_err_and(PemFault::is_cut), "{end}: {}", &whole[..end]),
            }
        }
    }
}

#[rstest]
#[case::no_end(|a: &str| a.replace("-----END CERTIFICATE-----", ""), PemFault::Cut)]
#[case::no_begin(|a: &str| a.replace("-----BEGIN CERTIFICATE-----", ""), PemFault::Malformed)]
#[case::two_begins(|a: &str| format!("-----BEGIN CERTIFICATE-----\n{a}"), PemFault::Malformed)]
#[case::two_ends(|a: &str| format!("{a}-----END CERTIFICATE-----\n"), PemFault::Malformed)]
#[case::an_end_between(|a: &str| format!("{a}-----END CERTIFICATE-----\n{a}"), PemFault::Malformed)]
#[case::another_end(|a: &str| a.replace("END CERTIFICATE", "END X509 CRL"), PemFault::Malformed)]
#[case::the_first_half_lost(|a: &str| a[200..].to_owned(), PemFault::Malformed)]
#[case::no_base64(|a: &str| a.replacen("\nM", "\n!", 1), PemFault::Malformed)]
#[case::a_label_of_two_lines(|a: &str| a.replacen("BEGIN CERT", "BEGIN\nCERT", 1), PemFault::Malformed)]
#[case::label_without_end(|a: &str| a.replacen("CERTIFICATE-----", "CERTIFICATE", 1), PemFault::Malformed)]
fn a_file_of_which_something_would_be_lost_is_refused(
    #[case] spoil: fn(&str) -> String,
    #[case] fault: PemFault,
) {
    let (a, _) = certificate("a");
    for file in [spoil(&a), format!("{a}{}", spoil(&a))] {
        assert_eq!(certificates(file.as_bytes()), Err(fault), "{file}");
    }
}

#[test]
fn what_is_no_certificate_is_none() {
    let key = rcgen::KeyPair::generate().unwrap();
    let empty = p7b(&[]);
    let cut = p7b(&[CertificateDer::from(certificate("a").1)]);
    for file in [
        &b""[..],
        b"\n",
        b"hello",
        b"----- no PEM -----",
        b"0",
        b"0\x82\xff\xff",
        &cut[..cut.len() - 1],
        &key.serialize_der(),
        key.serialize_pem().as_bytes(),
        &empty,
    ] {
        assert_eq!(certificates(file).unwrap(), [], "{}", String::from_utf8_lossy(file));
    }
}

#[test]
fn a_key_is_found_beside_certificates_in_every_encoding() {
    let key = rcgen::KeyPair::generate().unwrap();
    let (a, _) = certificate("a");
    let file = format!("{}{}", a.trim_end(), key.serialize_pem());
    for bytes in [file.clone().into_bytes(), utf16(&file), key.serialize_der()] {
        let found = private_key(&bytes).unwrap();
        assert_eq!(found.secret_der(), key.serialize_der());
    }
    let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(matches!(parts(encrypted.as_bytes()).unwrap()[..], [PemPart::EncryptedKey]));
    assert!(private_key(encrypted.as_bytes()).is_none());
}

proptest! {
    #[test]
    fn reading_never_panics(
        pieces in prop::collection::vec(prop_oneof![
            Just("-----BEGIN ".to_owned()), Just("-----END ".to_owned()), Just("-----".to_owned()),
            Just("CERTIFICATE".to_owned()), Just("\n".to_owned()), Just("MAA=".to_owned()), ".{0,8}",
        ], 0..12),
        raw in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = parts(pieces.concat().as_bytes());
        let _ = parts(&utf16(&pieces.concat()));
        let _ = parts(&raw);
        let _ = parts(&[&[0x30, 0x80 | raw.len() as u8], &raw[..]].concat());
    }
}
