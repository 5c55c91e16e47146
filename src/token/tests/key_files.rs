//! Key files: accepted and refused keys, and that one bad key stops no other.

use aws_lc_rs::signature::KeyPair as _;
use serde_json::{Value, json};

use super::forge::*;
use crate::denial::Denial;
use crate::token::*;

fn problems(keys: &[Value]) -> (usize, Vec<String>) {
    let (set, problems) = KeySet::parse(&[("k.json", &key_file(keys))]);
    (set.len(), problems.iter().map(ToString::to_string).collect())
}

fn rsa(members: Value) -> Value {
    jwk(&spki(RSA.public_key()), members)
}

#[test]
fn a_bad_key_is_refused_with_a_reason_and_the_others_work() {
    let p256 = |members| jwk(&spki(P256.public_key()), members);
    let weak = "A".repeat(170);
    let cases = [
        (json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "x" }), "has a private or symmetric key"),
        (json!({ "kty": "oct", "kid": "x" }), "is symmetric: HMAC"),
        (rsa(json!({ "kid": "x", "d": "AQ" })), "has a private or symmetric key"),
        (p256(json!({ "kid": "x", "d": "AQ" })), "has a private or symmetric key"),
        (rsa(json!({ "kid": "x", "n": weak })), "less than 2048 bits"),
        (rsa(json!({ "kid": "x", "n": "" })), "less than 2048 bits"),
        (rsa(json!({ "kid": "x", "n": null })), "lacks a member"),
        (rsa(json!({ "kid": "x", "e": "AQ" })), "unusable exponent"),
        (rsa(json!({ "kid": "x", "e": "AQAA" })), "unusable exponent"),
        (rsa(json!({ "kid": "x", "e": "AQAC" })), "unusable exponent"),
        (rsa(json!({ "kid": "x", "use": "enc" })), "use other than sig"),
        (rsa(json!({ "kid": "x", "use": 1 })), "use other than sig"),
        (rsa(json!({ "kid": "x", "key_ops": ["sign"] })), "key_ops without verify"),
        (rsa(json!({ "kid": "x", "key_ops": "verify" })), "key_ops without verify"),
        (rsa(json!({ "kid": "x", "alg": "HS256" })), "alg that is not supported"),
        (rsa(json!({ "kid": "x", "alg": "none" })), "alg that is not supported"),
        (rsa(json!({ "kid": "x", "alg": "ES256" })), "alg that is not for its kind"),
        (p256(json!({ "kid": "x", "alg": "ES384" })), "alg that is not for its kind"),
        (p256(json!({ "kid": "x", "alg": "RS256" })), "alg that is not for its kind"),
        (p256(json!({ "kid": "x", "crv": "secp256k1" })), "curve other than"),
        (p256(json!({ "kid": "x", "crv": "P-521" })), "curve other than"),
        (p256(json!({ "kid": "x", "x": "AQ" })), "not a valid public key"),
        (p256(json!({ "kid": "x", "x": "" })), "coordinates of the wrong length"),
        (p256(json!({ "kid": "x", "x": "A".repeat(44) })), "coordinates of the wrong length"),
        (
            p256(json!({ "kid": "x", "x": "A".repeat(43), "y": "A".repeat(43) })),
            "not a valid public key",
        ),
        (json!({ "kty": "OKP", "crv": "Ed448", "x": "AQ" }), "curve other than"),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": "AQ" }), "not a point of its curve"),
        (json!({ "kty": "AKP", "kid": "x" }), "kty other than"),
        (json!({ "kid": "x" }), "has no kty"),
        (json!("x"), "has no kty"),
        (rsa(json!({ "kid": 1 })), "is not a string"),
        (rsa(json!({ "kid": "x", "issuer": null, "x5t": [] })), "is not a string"),
        (rsa(json!({ "kid": "x", "issuer": "" })), "is not a string"),
        (rsa(json!({ "kid": "x", "use": "" })), "use other than sig"),
    ];
    let good = jwk(&spki(ED.public_key()), json!({ "kid": "good" }));
    for (bad, reason) in cases {
        let (usable, problems) = problems(&[bad.clone(), good.clone()]);
        assert_eq!((usable, problems.len()), (1, 1), "{bad}: {problems:?}");
        assert!(
            problems[0].starts_with("k.json: key 1 ") && problems[0].contains(reason),
            "{problems:?}"
        );
    }
}

#[test]
fn a_key_that_could_be_taken_for_another_is_not_used() {
    let other = jwk(&spki(RSA_OTHER.public_key()), json!({ "kid": "a" }));
    for second in [other.clone(), rsa(json!({ "kid": "a" })), rsa(json!({}))] {
        let (usable, problems) = problems(&[rsa(json!({ "kid": "a" })), second]);
        assert_eq!((usable, problems.len()), (1, 1));
        assert!(problems[0].contains("of an earlier one"), "{problems:?}");
    }
    // Entra lists one kid for several issuers; each key verifies only its own issuer's tokens.
    let bound = |issuer: &str| rsa(json!({ "kid": "a", "issuer": issuer }));
    assert_eq!(problems(&[bound("https://a"), bound("https://b")]), (2, vec![]));
}

#[test]
fn keys_of_one_name_are_distinguished_by_algorithm() {
    let key = |kid: &str, alg: &str| rsa(json!({ "kid": kid, "alg": alg }));
    let other = |kid: &str, alg: &str| {
        jwk(&spki(RSA_OTHER.public_key()), json!({ "kid": kid, "alg": alg }))
    };
    let token = |header: Value, sign: &Sign<'_>| {
        forge(header.to_string(), site(json!({})).to_string(), sign)
    };
    let rs512 = Sign::Rsa(&aws_lc_rs::signature::RSA_PKCS1_SHA512);
    let kid = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
    let (wrong, algorithm) = (Err(Denial::TokenSignature), Err(Denial::TokenAlgorithm));
    let es256 = jwk(&spki(P256.public_key()), json!({ "kid": "a" }));
    for (keys, token, expected) in [
        // The same key for two algorithms, in either order.
        ([key("a", "RS512"), key("a", "RS256")], token(kid("RS256", "a"), &RS256), Ok(())),
        ([key("a", "RS512"), key("a", "RS256")], token(kid("RS512", "a"), &rs512), Ok(())),
        ([key("a", "RS256"), key("a", "RS512")], token(kid("RS512", "a"), &rs512), Ok(())),
        // Two keys.
        ([other("a", "RS512"), key("a", "RS256")], token(kid("RS256", "a"), &RS256), Ok(())),
        ([es256.clone(), key("a", "RS256")], token(kid("RS256", "a"), &RS256), Ok(())),
        ([es256.clone(), key("a", "RS256")], token(kid("ES256", "a"), &Sign::P256), Ok(())),
        // The same key under two names, and a token without a key name.
        ([key("a", "RS256"), key("b", "RS256")], token(kid("RS256", "b"), &RS256), Ok(())),
        ([key("a", "RS256"), key("b", "RS256")], token(json!({ "alg": "RS256" }), &RS256), Ok(())),
        ([other("a", "RS256"), key("b", "RS256")], token(json!({ "alg": "RS256" }), &RS256), wrong),
        // Each key has the one algorithm that its file gave it.
        ([other("a", "RS512"), key("a", "RS256")], token(kid("RS512", "a"), &rs512), wrong),
        ([key("a", "PS256"), key("b", "RS256")], token(kid("RS256", "a"), &RS256), algorithm),
        ([key("a", "RS256"), key("a", "PS256")], token(kid("RS512", "a"), &rs512), algorithm),
        ([key("a", "RS256"), key("b", "RS512")], token(kid("RS512", "c"), &rs512), wrong),
        ([es256.clone(), key("a", "RS256")], token(kid("ES256", "a"), &RS256), wrong),
        ([es256, key("a", "RS256")], token(kid("RS256", "a"), &Sign::P256), wrong),
    ] {
        let (set, problems) = KeySet::parse(&[("k.json", &key_file(&keys))]);
        assert_eq!((set.len(), problems), (2, vec![]));
        let text = BearerToken::parse(token.as_bytes()).unwrap();
        let shown = String::from_utf8(base64(text.header())).unwrap();
        assert_eq!(verifies(set, &token), expected, "{shown} by {keys:?}");
    }
}

fn base64(segment: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(segment).unwrap()
}

#[test]
fn the_number_and_size_of_keys_are_bounded() {
    let many: Vec<_> = (0..70)
        .map(|i| rsa(json!({ "kid": format!("k{i}"), "issuer": format!("https://{i}") })))
        .collect();
    let (usable, problems) = problems(&many);
    assert_eq!((usable, problems.len()), (KEYS_MAX, 6));
    let huge = vec![b' '; FILE_BYTES_MAX + 1];
    let (set, problems) = KeySet::parse(&[("huge", &huge), ("good", &key_file(&all_keys()))]);
    assert_eq!(
        (set.len(), problems[0].to_string()),
        (4, "huge: the file is larger than 256 KiB".into())
    );
}

#[test]
fn a_file_that_is_no_key_file_says_so() {
    for (bytes, reason) in [
        (&b""[..], "neither a JWK set nor a public key"),
        (b"hello", "neither a JWK set nor a public key"),
        (b"{", "not JSON"),
        (b"{}", "without a list named keys"),
        (b"{\"keys\":{}}", "without a list named keys"),
        (b"{\"keys\":[]}", "a list named keys without any key in it"),
        (b"\xff\xfe{\0}\0", "without a list named keys"),
        (b"{\"keys\":[],\"keys\":[]}", "occurs twice"),
        (b"\xff\xfe{", "neither a JWK set nor a public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "ends before its PEM does"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "is not well-formed PEM"),
        (b"-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----\n", "not well-formed PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a well-formed Subject"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a well-formed cert"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key; only"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "neither a public key nor"),
    ] {
        let (set, problems) = KeySet::parse(&[("f", bytes)]);
        assert!(set.is_empty());
        assert!(problems[0].to_string().contains(reason), "{reason}: {problems:?}");
    }
}

#[test]
fn what_serializers_write_for_nothing_is_nothing() {
    let nothing =
        ["use", "alg", "kid", "x5t", "x5t#S256", "key_ops", "issuer", "d", "p", "oth", "k"];
    let members: serde_json::Map<_, _> =
        nothing.into_iter().map(|name| (name.to_owned(), Value::Null)).collect();
    assert_eq!(problems(&[rsa(members.into())]), (1, vec![]));
}

#[test]
fn keys_in_pem_that_is_joined_or_der_are_all_read() {
    let one = pem("PUBLIC KEY", &spki(RSA.public_key()));
    let two = pem("PUBLIC KEY", &spki(P256.public_key()));
    let joined = format!("{}{two}", one.trim_end());
    let der = spki(ED.public_key());
    let (set, problems) = KeySet::parse(&[("joined", joined.as_bytes()), ("der", &der)]);
    assert_eq!((set.len(), problems), (3, vec![]));
    // A bad section stops no other, but in a truncated file the missing part is unknown.
    let bad = format!("-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----\n{one}");
    let (set, problems) = KeySet::parse(&[("f", bad.as_bytes())]);
    assert_eq!((set.len(), problems.len()), (1, 1));
    let cut = &joined[..joined.len() - 40];
    let (set, problems) = KeySet::parse(&[("f", cut.as_bytes())]);
    assert_eq!((set.len(), problems.len()), (0, 1));
}

#[test]
fn keys_are_read_in_every_encoding_of_windows() {
    let jwks = String::from_utf8(key_file(&all_keys())).unwrap();
    let pem = pem("PUBLIC KEY", &spki(RSA.public_key())).replace('\n', "\r\n");
    for (text, keys) in [(jwks, 4), (pem, 1)] {
        let utf16: Vec<u16> = std::iter::once(0xfeff).chain(text.encode_utf16()).collect();
        for bytes in [
            format!("\u{feff}{text}").into_bytes(),
            utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        ] {
            let (set, problems) = KeySet::parse(&[("f", &bytes)]);
            assert_eq!((set.len(), problems), (keys, vec![]));
        }
    }
}

#[test]
fn an_unnamed_pem_key_is_used_only_if_it_is_the_only_one() {
    let (set, problems) =
        KeySet::parse(&[("a.pem", pem("PUBLIC KEY", &spki(RSA.public_key())).as_bytes())]);
    assert_eq!(problems, []);
    let unnamed = forge(r#"{"alg":"RS256"}"#, site(json!({})).to_string(), &RS256);
    let named = rs256(&site(json!({})));
    assert!(verifies(set, &unnamed).is_ok());
    let two = [
        ("a.pem", pem("PUBLIC KEY", &spki(RSA.public_key()))),
        ("b.pem", pem("PUBLIC KEY", &spki(RSA_OTHER.public_key()))),
        ("c.pem", pem("PUBLIC KEY", &spki(P256.public_key()))),
    ];
    let files: Vec<_> = two.iter().map(|(n, t)| (*n, t.as_bytes())).collect();
    assert_eq!(verifies(KeySet::parse(&files).0, &unnamed), Err(Denial::TokenSignature));
    assert_eq!(verifies(KeySet::parse(&files[..1]).0, &named), Err(Denial::TokenSignature));
    let es256 = forge(r#"{"alg":"ES256"}"#, site(json!({})).to_string(), &Sign::P256);
    assert!(verifies(KeySet::parse(&files).0, &es256).is_ok(), "the only key for its algorithm");
}

#[test]
fn a_certificate_is_found_by_its_thumbprint() {
    let pkcs8 = P256.to_pkcs8v1().unwrap();
    let key = rcgen::KeyPair::try_from(pkcs8.as_ref()).unwrap();
    let params = rcgen::CertificateParams::new(vec!["signer".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let der = certificate.der();
    let (set, problems) = KeySet::parse(&[("c.pem", certificate.pem().as_bytes())]);
    assert_eq!(problems, []);
    let x5t = set.iter().next().unwrap().x5t().unwrap().to_owned();
    assert_eq!(x5t.len(), 27, "20 bytes of SHA-1");
    let header = json!({ "alg": "ES256", "typ": "JWT", "x5t": x5t }).to_string();
    let token = forge(header, site(json!({})).to_string(), &Sign::P256);
    assert!(verifies(set, &token).is_ok());
    // A signer with that certificate writes the same x5t.
    let signer = TokenSigner::from_pkcs8(pkcs8.as_ref(), Some(der)).unwrap();
    assert_eq!(signer.jwk()["x5t"], x5t);
}

#[test]
fn a_key_bound_to_an_issuer_verifies_for_it_alone() {
    const OTHER: &str = "99999999-2222-4333-8444-555555555555";
    let key = |issuer: &str| vec![rsa(json!({ "kid": "rsa", "issuer": issuer }))];
    let result = |iss: &str, keys: &[Value]| {
        let issuers = vec![
            "https://sts.chinacloudapi.cn/72f988bf-86f1-41af-91ab-2d7cd011db47/".to_owned(),
            format!("https://sts.windows.net/{OTHER}/"),
        ];
        let (_keep, trusted) = trust(Issuer::entra("entra", TENANT, issuers), keys);
        let token = rs256(&entra(json!({ "iss": iss })));
        let token = BearerToken::parse(token.as_bytes()).unwrap();
        verify(&token, &[trusted], now()).map(|_| ()).map_err(|r| r.denial)
    };
    let refused = Err(Denial::TokenSignature);
    let v1 = |tenant: &str| format!("https://sts.windows.net/{tenant}/");
    let v2 = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    let (own, any) = (TENANT.to_string(), "{tenantid}");
    let (v1_iss, v2_iss) = (v1(&own), v2(&own));
    let china_v2 = "https://login.partner.microsoftonline.cn/{tenantid}/v2.0";
    let china_v1 = format!("https://sts.chinacloudapi.cn/{own}/");
    for (key_issuer, iss, expected) in [
        (v1(any), &v1_iss, Ok(())),
        (v1(&own), &v1_iss, Ok(())),
        (v1(OTHER), &v1_iss, refused),
        // Entra signs tokens of version 1.0 with keys that it publishes for version 2.0.
        (v2(any), &v1_iss, Ok(())),
        (v2(&own), &v1_iss, Ok(())),
        (v2(OTHER), &v1_iss, refused),
        (v2(any), &v2_iss, Ok(())),
        (v2(OTHER), &v2_iss, refused),
        (china_v2.to_owned(), &china_v1, Ok(())),
        // Not the reverse, not another cloud, and not for the iss of another tenant.
        (v1(any), &v2_iss, refused),
        (china_v2.to_owned(), &v1_iss, refused),
        (v2(any), &china_v1, refused),
        (v2(any), &v1(OTHER), refused),
        (v2(OTHER), &v1(OTHER), refused),
        ("https://login.microsoftonline.com/common/v2.0".to_owned(), &v1_iss, refused),
        (format!("{}/", v2(any)), &v1_iss, refused),
        (format!("https://login.microsoftonline.com.evil/{own}/v2.0"), &v1_iss, refused),
    ] {
        assert_eq!(result(iss, &key(&key_issuer)), expected, "{key_issuer} for {iss}");
    }
    let both = [key(&v2(any)), key(&v1(any))].concat();
    assert_eq!(result(&v1_iss, &both), Ok(()), "one key for both versions");
    let other = jwk(&spki(RSA_OTHER.public_key()), json!({ "kid": "rsa", "issuer": v1(any) }));
    assert_eq!(result(&v1_iss, &[key(&v2(any)), vec![other]].concat()), refused);
}

#[test]
fn only_an_entra_issuer_has_two_versions() {
    let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    let key = rsa(json!({ "kid": "rsa", "issuer": v2 }));
    let v1 = format!("https://sts.windows.net/{TENANT}/");
    let (_keep, trusted) = trust(Issuer::site("site", Some(HIERARCHY), vec![v1.clone()]), &[key]);
    let token = rs256(&site(json!({ "iss": v1 })));
    let token = BearerToken::parse(token.as_bytes()).unwrap();
    let refused = verify(&token, &[trusted], now()).map(|_| ()).map_err(|r| r.denial);
    assert_eq!(refused, Err(Denial::TokenSignature));
}

fn verifies(set: KeySet, token: &str) -> Result<(), Denial> {
    let (_keep, keys) = crate::live::live(set);
    let issuer = std::sync::Arc::new(Issuer::site("site", Some(HIERARCHY), vec![]));
    let token = BearerToken::parse(token.as_bytes()).unwrap();
    verify(&token, &[Trusted { issuer, keys }], now()).map(|_| ()).map_err(|r| r.denial)
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

// The public keys of the private keys 43 (P-256) and 176 (P-384): their y begins with a zero byte.
#[test]
fn a_coordinate_without_its_leading_zero_is_the_same_key() {
    for (curve, x, full, short) in [
        (
            "P-256",
            "mGriUG8f8QTQQjCGHY9LSY9LxMbQCbMPdUTcEpuC0o0",
            "ADzMwKZGDgrjKKTZfTx7YdhvxiicGJ8lJREMRBuwfpc",
            "PMzApkYOCuMopNl9PHth2G_GKJwYnyUlEQxEG7B-lw",
        ),
        (
            "P-384",
            "0DqnSPX0jrPgxUtoPyXS4tfX4yASgqlbV6Wf-4-Uz0xDsRB8qUS5IRw1ERLeFu0Y",
            "AAoIxgLcXgAx2tCIwZMF9rJSorw_JF96W4C0hMe5n2mBwyN0xxSnaDJV9TMfZrsG",
            "CgjGAtxeADHa0IjBkwX2slKivD8kX3pbgLSEx7mfaYHDI3THFKdoMlX1Mx9muwY",
        ),
    ] {
        let thumbprint = |y: &str| {
            let jwk = json!({ "kty": "EC", "crv": curve, "x": x, "y": y });
            ClientKey::from_jwk(jwk.to_string().as_bytes()).unwrap().thumbprint().to_owned()
        };
        assert_eq!(thumbprint(short), thumbprint(full), "{curve}");
    }
}
