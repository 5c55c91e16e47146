//! Attacks on token verification, case by case: all are refused, and quickly.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use aws_lc_rs::signature::{self as sig, KeyPair as _};
use rstest::rstest;
use serde_json::{Value, json};

use super::forge::*;
use crate::denial::Denial;
use crate::token::material::Material;
use crate::token::text::to_base64url;

const RS256_HEADER: &str = r#"{"alg":"RS256","typ":"JWT","kid":"rsa"}"#;

fn good_payload() -> String {
    entra(json!({})).to_string()
}

fn with_header(header: &str) -> String {
    forge(header, good_payload(), &RS256)
}

fn with_payload(payload: &str) -> String {
    forge(RS256_HEADER, payload, &RS256)
}

#[test]
fn the_token_that_all_others_differ_from_is_good() {
    assert!(check(&with_header(RS256_HEADER)).is_ok());
}

#[rstest]
#[case(r#"{"alg":"RS256","kid":"rsa"}"#)]
#[case(r#"{"alg":"RS256","typ":"jwt","kid":"rsa"}"#)]
#[case(r#"{"alg":"RS256","typ":"at+JWT","kid":"rsa"}"#)]
#[case(r#"{"alg":"RS256","typ":"application/at+jwt","kid":"rsa"}"#)]
#[case(r#"{"alg":"RS256","typ":"JWT"}"#)]
fn headers_of_access_tokens_pass(#[case] header: &str) {
    assert!(check(&with_header(header)).is_ok(), "{header}");
}

// Header parameters.
#[rstest]
#[case(r#"{"alg":"none","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"None","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"nOnE","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"none ","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":null,"kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":["RS256"],"kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":256,"kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"rs256","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"RS1","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"ES256K","kid":"p256"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"RSA-OAEP","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"ES256","kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"{"alg":"RS256","alg":"none","kid":"rsa"}"#, Denial::TokenMalformed)]
#[case(r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#, Denial::TokenMalformed)]
#[case(r#"{"alg":"RS256","kid":"rsa","\u006bid":"rsa"}"#, Denial::TokenMalformed)]
#[case(r#"{"alg":"RS256","kid":"rsa","crit":["exp"]}"#, Denial::TokenCritical)]
#[case(r#"{"alg":"RS256","kid":"rsa","crit":["x"],"x":1}"#, Denial::TokenCritical)]
#[case(r#"{"alg":"RS256","kid":"rsa","crit":[]}"#, Denial::TokenCritical)]
#[case(r#"{"alg":"RS256","kid":"rsa","crit":"exp"}"#, Denial::TokenCritical)]
#[case(r#"{"alg":"RS256","kid":"rsa","crit":null}"#, Denial::TokenCritical)]
#[case(r#"{"alg":"RS256","kid":"rsa","crit":["b64"],"b64":false}"#, Denial::TokenCritical)]
#[case(r#"{"alg":"RS256","kid":"rsa","b64":false}"#, Denial::TokenCritical)]
#[case(r#"{"alg":"RS256","kid":"rsa","b64":true}"#, Denial::TokenCritical)]
#[case(r#"{"alg":"RS256","kid":"rsa","typ":"refresh"}"#, Denial::TokenType)]
#[case(r#"{"alg":"RS256","kid":"rsa","typ":"logout+jwt"}"#, Denial::TokenType)]
#[case(r#"{"alg":"RS256","kid":"rsa","typ":"dpop+jwt"}"#, Denial::TokenType)]
#[case(r#"{"alg":"RS256","kid":"rsa","typ":"pop"}"#, Denial::TokenType)]
#[case(r#"{"alg":"RS256","kid":"rsa","typ":""}"#, Denial::TokenType)]
#[case(r#"{"alg":"RS256","kid":"rsa","typ":1}"#, Denial::TokenType)]
#[case(r#"{"alg":"RS256","kid":"rsa","cty":"JWT"}"#, Denial::TokenType)]
#[case(r#"{"alg":"RS256","kid":"rsa","zip":"DEF"}"#, Denial::TokenType)]
#[case(r#"{"alg":"dir","enc":"A128GCM","kid":"rsa"}"#, Denial::TokenType)]
#[case(r#"{"alg":"PBES2-HS256+A128KW","p2c":2147483647,"kid":"rsa"}"#, Denial::TokenAlgorithm)]
#[case(r#"[]"#, Denial::TokenMalformed)]
#[case(r#""RS256""#, Denial::TokenMalformed)]
#[case("\u{feff}{\"alg\":\"RS256\",\"kid\":\"rsa\"}", Denial::TokenMalformed)]
fn headers_of_other_things_do_not_pass(#[case] header: &str, #[case] denial: Denial) {
    assert_eq!(denied(&with_header(header)), denial, "{header}");
}

// Another algorithm of the same family, with a correct signature.
#[test]
fn a_key_verifies_its_one_algorithm_alone() {
    let signs: [(&str, Sign<'_>); 5] = [
        ("RS384", Sign::Rsa(&sig::RSA_PKCS1_SHA384)),
        ("RS512", Sign::Rsa(&sig::RSA_PKCS1_SHA512)),
        ("PS256", Sign::Rsa(&sig::RSA_PSS_SHA256)),
        ("PS384", Sign::Rsa(&sig::RSA_PSS_SHA384)),
        ("PS512", Sign::Rsa(&sig::RSA_PSS_SHA512)),
    ];
    for (alg, sign) in signs {
        let token = forge(format!(r#"{{"alg":"{alg}","kid":"rsa"}}"#), good_payload(), &sign);
        assert_eq!(denied(&token), Denial::TokenAlgorithm, "{alg}");
        let claimed = forge(RS256_HEADER, good_payload(), &sign);
        assert_eq!(denied(&claimed), Denial::TokenSignature, "{alg} under the name of RS256");
    }
}

#[rstest]
#[case("ES256", "p256", Sign::P256)]
#[case("ES384", "p384", Sign::P384)]
#[case("EdDSA", "ed", Sign::Ed)]
fn every_kind_of_key_verifies(#[case] alg: &str, #[case] kid: &str, #[case] sign: Sign<'_>) {
    let header = format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
    assert!(check(&forge(&header, good_payload(), &sign)).is_ok());
    assert_eq!(denied(&forge(&header, good_payload(), &RS256)), Denial::TokenSignature);
}

// The public key as an HMAC secret, in every known encoding.
#[test]
fn hmac_never_passes_with_any_secret() {
    let spki = spki(RSA.public_key());
    let pem = pem("PUBLIC KEY", &spki);
    let Ok(Material::Rsa { n, e }) = Material::from_spki(&spki) else { panic!("an RSA key") };
    let secrets: [&[u8]; 9] = [
        pem.as_bytes(),
        pem.trim().as_bytes(),
        &spki,
        RSA.public_key().as_ref(),
        &n,
        &e,
        b"rsa",
        b"\0",
        to_base64url(&n).as_bytes(),
    ]
    .map(|s: &[u8]| s.to_vec().leak() as &[u8]);
    for (alg, hmac) in [("HS256", HMAC_SHA256), ("HS384", HMAC_SHA384), ("HS512", HMAC_SHA512)] {
        for secret in secrets {
            for named in [alg, "RS256"] {
                let header = format!(r#"{{"alg":"{named}","kid":"rsa"}}"#);
                let denial = denied(&forge(header, good_payload(), &Sign::Hmac(hmac, secret)));
                let expected =
                    if named == "RS256" { Denial::TokenSignature } else { Denial::TokenAlgorithm };
                assert_eq!(denial, expected);
            }
        }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

// Signatures that some verifiers accepted for any message.
#[test]
fn impossible_ecdsa_signatures_do_not_pass() {
    const N: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let n: Vec<u8> =
        (0..32).map(|i| u8::from_str_radix(&N[2 * i..2 * i + 2], 16).unwrap()).collect();
    let (zero, one) = ([0; 32], [&[0; 31][..], &[1]].concat());
    let header = r#"{"alg":"ES256","kid":"p256"}"#;
    for (r, s) in [
        (&zero[..], &zero[..]),
        (&zero, &one),
        (&one, &zero),
        (&n, &one),
        (&one, &n),
        (&n, &n),
        (&one, &one),
        (&n, &zero),
        (&zero, &n),
    ] {
        let bytes = [r, s].concat();
        let token = forge(header, good_payload(), &Sign::Bytes(&bytes));
        assert_eq!(denied(&token), Denial::TokenSignature);
    }
    assert_eq!(denied(&forge(header, good_payload(), &Sign::P256Der)), Denial::TokenSignature);
    for len in [1, 32, 63, 65, 96, 128] {
        let token = forge(header, good_payload(), &Sign::Bytes(&vec![0; len]));
        assert_eq!(denied(&token), Denial::TokenSignature, "{len} zero bytes");
    }
}

// Signatures of the wrong length or value.
#[test]
fn impossible_rsa_signatures_do_not_pass() {
    let good = with_header(RS256_HEADER);
    let (input, signature) = good.rsplit_once('.').unwrap();
    let Ok(Material::Rsa { n, .. }) = Material::from_spki(&spki(RSA.public_key())) else {
        panic!("an RSA key")
    };
    for bytes in [vec![0; 256], vec![0xff; 256], n.clone(), [&n[..], &[0]].concat(), vec![1]] {
        let token = format!("{input}.{}", to_base64url(bytes));
        assert_eq!(denied(&token), Denial::TokenSignature);
    }
    assert_eq!(
        denied(&format!("{input}.{}", &signature[..signature.len() - 2])),
        Denial::TokenSignature
    );
    assert_eq!(denied(&format!("{input}.{signature}AA")), Denial::TokenSignature);
    assert_eq!(denied(&format!("{input}.")), Denial::TokenMalformed);
    assert_eq!(denied(input), Denial::TokenMalformed);
}

// Parts of different tokens, and another key.
#[test]
fn a_swapped_part_or_key_does_not_pass() {
    let good = with_header(RS256_HEADER);
    let other = with_payload(&entra(json!({ "deviceid": TENANT, "sub": TENANT })).to_string());
    let parts = |t: &str| t.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (parts(&good), parts(&other));
    assert_eq!(denied(&format!("{}.{}.{}", a[0], b[1], a[2])), Denial::TokenSignature);
    let header = to_base64url(r#"{"alg":"RS256","kid":"rsa"}"#);
    assert_eq!(denied(&format!("{header}.{}.{}", a[1], a[2])), Denial::TokenSignature);
    let forged = forge(RS256_HEADER, good_payload(), &Sign::RsaOther);
    assert_eq!(denied(&forged), Denial::TokenSignature);
}

// Keys inside the token.
#[test]
fn a_token_never_brings_its_own_key() {
    let own = jwk(&spki(RSA_OTHER.public_key()), json!({ "kid": "rsa" }));
    for member in [
        json!({ "jwk": own }),
        json!({ "jku": "http://127.0.0.1:1/keys" }),
        json!({ "x5u": "http://127.0.0.1:1/cert" }),
        json!({ "x5c": ["MIIB"] }),
    ] {
        let mut header = json!({ "alg": "RS256", "kid": "rsa" });
        header.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        let header = header.to_string();
        let forged = forge(&header, good_payload(), &Sign::RsaOther);
        assert_eq!(denied(&forged), Denial::TokenSignature, "{header}");
        assert!(check(&with_header(&header)).is_ok(), "ignored beside a good signature: {header}");
    }
}

// Key names.
#[rstest]
#[case(json!("../../dev/null"), Denial::TokenSignature)]
#[case(json!("' OR 1=1 --"), Denial::TokenSignature)]
#[case(json!("rsa|cmd"), Denial::TokenSignature)]
#[case(json!("rsa\0"), Denial::TokenSignature)]
#[case(json!("rsa\r\nlevel=info msg=allowed"), Denial::TokenSignature)]
#[case(json!("${jndi:ldap://x}"), Denial::TokenSignature)]
#[case(json!("RSA"), Denial::TokenSignature)]
#[case(json!("x".repeat(5000)), Denial::TokenMalformed)]
#[case(json!(""), Denial::TokenMalformed)]
#[case(json!(1), Denial::TokenMalformed)]
#[case(json!(null), Denial::TokenMalformed)]
#[case(json!({ "a": 1 }), Denial::TokenMalformed)]
fn a_strange_kid_finds_no_key_and_stays_out_of_the_log(#[case] kid: Value, #[case] denial: Denial) {
    for name in ["kid", "x5t", "x5t#S256"] {
        let header = json!({ "alg": "RS256", name: kid }).to_string();
        let refusal = check(&with_header(&header)).unwrap_err();
        assert_eq!(refusal.denial, denial, "{header}");
        let line = refusal.to_string();
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line:?}");
        assert!(!line.contains(['$', '"', '\\']) && line.len() < 250, "{line}");
    }
}

#[test]
fn names_of_keys_must_not_contradict_each_other() {
    let result = |names: &str| {
        let header = format!(r#"{{"alg":"ES256",{names}}}"#);
        check(&forge(header, good_payload(), &Sign::P256)).map(|_| ()).map_err(|r| r.denial)
    };
    assert_eq!(result(r#""x5t":"p256-x5t""#), Ok(()));
    assert_eq!(result(r#""x5t":"p256-x5t","kid":"p256""#), Ok(()));
    assert_eq!(result(r#""x5t":"p256-x5t","kid":"other""#), Err(Denial::TokenSignature));
    assert_eq!(result(r#""x5t":"other","kid":"p256""#), Err(Denial::TokenSignature));
    // The kid names the RSA key, and the x5t does not contradict it because that key has none.
    assert_eq!(result(r#""x5t":"p256-x5t","kid":"rsa""#), Err(Denial::TokenAlgorithm));
}

// The client gets the same denial for an unknown key and a wrong signature.
#[test]
fn an_unknown_key_and_a_bad_signature_have_one_denial() {
    let unknown = check(&with_header(r#"{"alg":"RS256","kid":"other"}"#)).unwrap_err();
    let wrong = check(&forge(RS256_HEADER, good_payload(), &Sign::RsaOther)).unwrap_err();
    assert_eq!(unknown.denial, wrong.denial);
    assert_ne!(unknown.detail, wrong.detail, "the log tells them apart");
    assert_eq!(unknown.kid.as_deref(), Some("other"));
}

// Times of wrong types.
#[rstest]
#[case("exp")]
#[case("nbf")]
#[case("iat")]
fn a_time_is_a_number_of_seconds_within_reach(#[case] name: &str) {
    let values = [
        r#""1790003600""#,
        r#""never""#,
        r#""99999999999""#,
        "true",
        "null",
        "[]",
        "[1790003600]",
        "{}",
        "-1",
        "-1e9",
        "\"1790003600.5\"",
        "-0.5",
        "1e300",
        "253370764800.5",
        "253370764800",
        "9223372036854775807",
        "9223372036854775808",
        "1e19",
        "-9223372036854775809",
    ];
    for value in values {
        let payload = entra(json!({ name: null })).to_string();
        let payload = payload.replacen('{', &format!(r#"{{"{name}":{value},"#), 1);
        assert_eq!(denied(&with_payload(&payload)), Denial::TokenClaims, "{name}: {value}");
    }
    for value in ["1e400", "1e999999999", "-1e999999999", "NaN", "Infinity", "0x6ab"] {
        let payload = entra(json!({ name: null })).to_string();
        let payload = payload.replacen('{', &format!(r#"{{"{name}":{value},"#), 1);
        let started = Instant::now();
        assert_eq!(denied(&with_payload(&payload)), Denial::TokenMalformed, "{name}: {value}");
        assert!(started.elapsed() < Duration::from_millis(50) * 10);
    }
}

#[test]
fn a_time_may_have_a_fraction_which_does_not_count() {
    let payload = |times: Value| entra(times).to_string();
    let fraction = |name: &str, value: &str| {
        let text = payload(json!({ name: null }));
        with_payload(&text.replacen('{', &format!(r#"{{"{name}":{value},"#), 1))
    };
    for name in ["exp", "nbf", "iat"] {
        let soon = NOW_S + if name == "exp" { 3600 } else { -60 };
        for value in [format!("{soon}.0"), format!("{soon}.999999"), format!("{soon}.5e0")] {
            assert!(check(&fraction(name, &value)).is_ok(), "{name}: {value}");
        }
    }
    assert_eq!(denied(&fraction("exp", "0.5")), Denial::TokenClaims, "that is zero");
    let over = NOW_S - 300;
    assert_eq!(denied(&fraction("exp", &format!("{over}.999"))), Denial::TokenExpired);
    assert!(check(&fraction("exp", &format!("{}.001", over + 1))).is_ok());
    let early = NOW_S + 301;
    assert_eq!(denied(&fraction("nbf", &format!("{early}.0"))), Denial::TokenNotYetValid);
}

#[test]
fn exp_must_be_there_and_may_be_written_with_an_exponent() {
    assert_eq!(denied(&rs256(&entra(json!({ "exp": null })))), Denial::TokenClaims);
    assert_eq!(denied(&rs256(&entra(json!({ "exp": 0 })))), Denial::TokenClaims);
    let payload = entra(json!({ "exp": null })).to_string();
    let payload = payload.replacen('{', r#"{"exp":1.7900036e9,"#, 1);
    assert!(check(&with_payload(&payload)).is_ok());
    assert!(check(&rs256(&entra(json!({ "nbf": 0 })))).is_ok(), "some issuers write nbf 0");
}

// Ambiguous payloads.
#[test]
fn a_payload_with_two_readings_does_not_pass() {
    let good = good_payload();
    let twice = |member: &str| good.replacen('{', &format!("{{{member},"), 1);
    let deep = format!(r#"{{"x":{}{},"#, "[".repeat(3000), "]".repeat(3000));
    let mut cases = vec![
        twice(r#""exp":1790003600"#),
        twice(r#""exp":1"#),
        twice(r#""iss":"x""#),
        twice(r#""sub":"root""#),
        twice(r#""deviceid":"x""#),
        twice(r#""\u0069ss":"x""#),
        twice(r#""x":{"a":1,"a":1}"#),
        twice(r#""x":NaN"#),
        twice("/**/\"x\":1"),
        twice("'x':1"),
        format!("{good}x"),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        format!("{good},"),
        "null".into(),
        "[]".into(),
        "\"x\"".into(),
        "0".into(),
        String::from(" "),
        format!("[{good}]"),
        good.replacen('{', &deep, 1),
        twice("\"x\":\"\n\""),
        good.strip_suffix('}').unwrap().into(),
    ];
    cases.push(good.replacen('{', "{\"x\":\"\\ud800\",", 1));
    for payload in cases {
        assert_eq!(denied(&with_payload(&payload)), Denial::TokenMalformed, "{payload:.80}");
    }
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut bad_utf8 = good.clone().into_bytes();
    bad_utf8[3] = 0xff;
    for bytes in [utf16, bad_utf8, [&[0xff, 0xfe][..], good.as_bytes()].concat()] {
        assert_eq!(denied(&forge(RS256_HEADER, bytes, &RS256)), Denial::TokenMalformed);
    }
}

// Look-alike issuers.
#[test]
fn iss_is_compared_byte_for_byte() {
    for iss in [
        ISS_ENTRA.to_uppercase(),
        ISS_ENTRA.trim_end_matches('/').into(),
        format!("{ISS_ENTRA}/"),
        format!("{ISS_ENTRA}\0"),
        format!(" {ISS_ENTRA}"),
        format!("{ISS_ENTRA} "),
        format!("{ISS_ENTRA}x"),
        ISS_ENTRA.replace("sts", "st\u{0455}"),
        String::new(),
        ISS_ENTRA.replace("72f988bf", "72f988be"),
        ISS_ENTRA.replace("https", "http"),
        "https://login.microsoftonline.com/common/v2.0".into(),
        ISS_SITE.replace("urn:", "URN:"),
        ISS_SITE.to_uppercase(),
    ] {
        assert_eq!(denied(&rs256(&entra(json!({ "iss": iss })))), Denial::TokenIssuer, "{iss}");
    }
    for iss in [json!(null), json!([ISS_ENTRA]), json!({ "iss": ISS_ENTRA }), json!(1)] {
        assert_eq!(denied(&rs256(&entra(json!({ "iss": iss })))), Denial::TokenClaims, "{iss}");
    }
}

#[test]
fn a_key_of_one_issuer_never_verifies_for_another() {
    use crate::token::{BearerToken, Issuer, verify};
    let (a, b) = (all_keys(), vec![jwk(&spki(RSA_OTHER.public_key()), json!({ "kid": "rsa" }))]);
    let (_a, entra_trust) = trust(Issuer::entra("entra", TENANT, vec![]), &a);
    let (_b, site_trust) = trust(Issuer::site("site", Some(HIERARCHY), vec![]), &b);
    let trusted = [entra_trust, site_trust];
    // Signed by the site's key with Entra's iss, and the reverse.
    let as_entra = forge(RS256_HEADER, good_payload(), &Sign::RsaOther);
    let as_site = forge(RS256_HEADER, site(json!({})).to_string(), &RS256);
    for token in [as_entra, as_site] {
        let token = BearerToken::parse(token.as_bytes()).unwrap();
        let refusal = verify(&token, &trusted, now()).unwrap_err();
        assert_eq!(refusal.denial, Denial::TokenSignature);
    }
}

// Audiences.
#[test]
fn the_audience_is_one_of_the_configured_exactly() {
    let ours = "https://ConfigMgrService";
    for aud in [json!(ours), json!([ours]), json!([ours, "x"]), json!(["x", ours])] {
        assert!(check(&rs256(&entra(json!({ "aud": aud })))).is_ok(), "{aud}");
    }
    for aud in [
        json!("https://configmgrservice"),
        json!("https://ConfigMgrServic"),
        json!("https://ConfigMgrService/"),
        json!("https://ConfigMgrService,x"),
        json!("other"),
        json!(["https://ConfigMgrService x"]),
        json!("urn:sccm:service"),
        json!("*"),
    ] {
        assert_eq!(denied(&rs256(&entra(json!({ "aud": aud })))), Denial::TokenAudience, "{aud}");
    }
    for aud in [
        json!(null),
        json!([]),
        json!(""),
        json!([ours, 1]),
        json!([[ours]]),
        json!({ "a": ours }),
        json!(1),
        json!(true),
        json!([null]),
        json!([""]),
        json!([ours, ""]),
    ] {
        assert_eq!(denied(&rs256(&entra(json!({ "aud": aud })))), Denial::TokenClaims, "{aud}");
    }
}

// Time bounds, to the second.
#[test]
fn token_times_are_checked_to_the_second_with_leeway() {
    use crate::token::{BearerToken, verify};
    let token = rs256(&entra(json!({ "exp": NOW_S + 100, "nbf": NOW_S, "iat": NOW_S })));
    let token = BearerToken::parse(token.as_bytes()).unwrap();
    for (second, expected) in [
        (-301, Err(Denial::TokenNotYetValid)),
        (-300, Ok(())),
        (0, Ok(())),
        (399, Ok(())),
        (400, Err(Denial::TokenExpired)),
        (i64::MAX / 4 - NOW_S, Err(Denial::TokenExpired)),
        (-NOW_S, Err(Denial::TokenNotYetValid)),
    ] {
        let time = crate::clock::second(NOW_S + second);
        let result = verify(&token, &TRUSTED, time).map(|_| ()).map_err(|r| r.denial);
        assert_eq!(result, expected, "{second}");
    }
}

#[test]
fn a_time_denial_says_by_how_much() {
    use crate::token::{BearerToken, verify};
    let token = rs256(&entra(json!({ "exp": NOW_S + 100, "nbf": NOW_S, "iat": NOW_S })));
    let token = BearerToken::parse(token.as_bytes()).unwrap();
    for (second, told) in [
        (-3_599, "its signature is valid; it begins in 59 minutes"),
        (400, "its signature is valid; it ended 5 minutes ago"),
        (100 + 7_200, "its signature is valid; it ended 2 hours ago"),
    ] {
        let refusal = verify(&token, &TRUSTED, crate::clock::second(NOW_S + second)).unwrap_err();
        assert_eq!(refusal.detail, told);
    }
}

#[test]
fn a_token_that_lives_too_long_does_not_pass() {
    const DAY_S: i64 = 86_400;
    let lives = |begin: &str, days: i64, extra: i64| {
        let exp = NOW_S - 60 + days * DAY_S + extra;
        site(json!({ "nbf": null, begin: NOW_S - 60, "exp": exp }))
    };
    for begin in ["nbf", "iat"] {
        assert!(check(&rs256(&lives(begin, 90, 300))).is_ok());
        assert_eq!(denied(&rs256(&lives(begin, 90, 301))), Denial::TokenLifetime);
    }
    // Without a begin, or with one in the future, the remaining lifetime counts.
    let endless = site(json!({ "nbf": null, "exp": NOW_S + 90 * DAY_S + 301 }));
    assert_eq!(denied(&rs256(&endless)), Denial::TokenLifetime);
    let later = site(json!({ "iat": NOW_S + 80 * DAY_S, "exp": NOW_S + 91 * DAY_S }));
    assert_eq!(denied(&rs256(&later)), Denial::TokenLifetime);
    let registration = |days| {
        let kind = json!({ "SCCMTokenCategory": "SCCMPreAuthToken", "Type": "BulkRegistration",
            "exp": NOW_S - 60 + days * DAY_S });
        rs256(&site(kind))
    };
    assert!(check(&registration(7)).is_ok());
    assert_eq!(denied(&registration(8)), Denial::TokenLifetime);
}

// Other serialisations, and sizes.
#[test]
fn other_serialisations_do_not_pass_and_cost_nothing() {
    let good = with_header(RS256_HEADER);
    let mut parts = good.split('.');
    let (h, p, s) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let padded = format!("{h}.{p}==.{s}");
    let json = format!(r#"{{"payload":"{p}","protected":"{h}","signature":"{s}"}}"#);
    for (token, denial) in [
        (format!("{h}.{p}.{s}.{s}.{s}"), Denial::TokenType),
        (format!("{h}..{p}.{s}.{s}"), Denial::TokenType),
        (format!("{h}.{p}.{s}.{s}"), Denial::TokenMalformed),
        (format!(".{h}.{p}.{s}"), Denial::TokenMalformed),
        (format!("{h}.{p}.{s} "), Denial::TokenMalformed),
        (padded, Denial::TokenMalformed),
        (json, Denial::TokenAmbiguous),
        (".".repeat(2000), Denial::TokenMalformed),
        (format!("{h}.{p}.{}", "A".repeat(48 * 1024)), Denial::LimitHead),
        (format!("{h}.{p}.{}", "A".repeat(700 * 1024)), Denial::LimitHead),
    ] {
        let started = Instant::now();
        assert_eq!(denied(&token), denial, "{token:.60}");
        assert!(started.elapsed() < Duration::from_millis(500));
    }
}

#[test]
fn a_segment_has_one_spelling() {
    // A segment of two extra bytes has four spare bits in its last character; all must be zero.
    let header = r#"{"alg":"RS256","kid":"rsa"}"#.to_owned() + " ";
    let good = forge(&header, good_payload(), &RS256);
    let (segment, rest) = good.split_once('.').unwrap();
    assert_eq!(segment.len() % 4, 2, "the case needs spare bits");
    assert!(check(&good).is_ok());
    let last = segment.chars().last().unwrap();
    for spare in "BCDEFGHIJKLMNOP".chars().filter(|c| *c != last) {
        let twin = format!("{}{spare}.{rest}", &segment[..segment.len() - 1]);
        let denial = denied(&twin);
        assert!([Denial::TokenMalformed, Denial::TokenSignature].contains(&denial), "{spare}");
    }
}
