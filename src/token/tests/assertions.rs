//! Client registration and client assertions: all ways in which either can be invalid.

use aws_lc_rs::signature::KeyPair as _;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::forge::*;
use crate::grant_denial::GrantDenial;
use crate::token::*;

const ISSUER: &str = "https://mp01.contoso.com/sitegate/oauth2";

fn audiences() -> Vec<String> {
    vec![ISSUER.to_owned(), format!("{ISSUER}/token")]
}

fn key(spki: &[u8]) -> ClientKey {
    ClientKey::from_jwk(jwk(spki, json!({})).to_string().as_bytes()).unwrap()
}

fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": DEVICE, "sub": DEVICE, "aud": ISSUER, "jti": "1", "iat": NOW_S, "exp": NOW_S + 60,
    });
    let members = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        members.insert(name.clone(), value.clone());
    }
    members.retain(|_, v| !v.is_null());
    claims
}

fn judged(token: &str) -> Result<Asserted, GrantDenial> {
    let keys = [key(&spki(RSA.public_key())), key(&spki(P256.public_key()))];
    Assertion::parse(token)?.verify(&keys, &audiences(), now()).map(|(asserted, _)| asserted)
}

fn rs(payload: &Value) -> String {
    forge(r#"{"alg":"RS256"}"#, payload.to_string(), &RS256)
}

#[test]
fn a_good_assertion_says_who_and_until_when() {
    let found = judged(&rs(&claims(json!({})))).unwrap();
    assert_eq!((found.jti.as_str(), found.until, found.for_key), ("1", at(360), None));
    assert_eq!(Assertion::parse(&rs(&claims(json!({})))).unwrap().client(), DEVICE);
    let endpoint = claims(json!({ "aud": format!("{ISSUER}/token"), "jkt": "abc" }));
    assert_eq!(judged(&rs(&endpoint)).unwrap().for_key.as_deref(), Some("abc"));
    let es = r#"{"alg":"ES256","typ":"client-authentication+jwt"}"#;
    assert!(judged(&forge(es, claims(json!({})).to_string(), &Sign::P256)).is_ok());
}

#[rstest]
#[case::none(None, None, true)]
#[case::registered_and_not_written(Some("k1"), None, true)]
#[case::registered_and_written(Some("k1"), Some("k1"), true)]
#[case::written_and_never_registered(None, Some("k1"), true)]
#[case::written_otherwise_than_registered(Some("k1"), Some("k2"), true)]
#[case::of_the_other_key(Some("k1"), Some("other"), false)]
fn a_client_names_its_key_as_it_likes(
    #[case] registered: Option<&str>,
    #[case] written: Option<&str>,
    #[case] holds: bool,
) {
    let named = |spki: &[u8], kid: Option<&str>| {
        let jwk = jwk(spki, json!({ "kid": kid })).to_string();
        // As it is stored.
        ClientKey::from_jwk(ClientKey::from_jwk(jwk.as_bytes()).unwrap().jwk().as_bytes()).unwrap()
    };
    let keys = [
        named(&spki(RSA.public_key()), registered),
        named(&spki(RSA_OTHER.public_key()), Some("other")),
    ];
    let mut header = json!({ "alg": "RS256" });
    if let Some(kid) = written {
        header["kid"] = kid.into();
    }
    let token = forge(header.to_string(), claims(json!({})).to_string(), &RS256);
    let judged = Assertion::parse(&token).unwrap().verify(&keys, &audiences(), now()).map(drop);
    let expected = if holds { Ok(()) } else { Err(GrantDenial::AssertionSignature) };
    assert_eq!(judged, expected);
}

#[test]
fn ed25519_is_taken_by_either_of_its_names() {
    for alg in ["EdDSA", "Ed25519"] {
        let jwk = jwk(&spki(ED.public_key()), json!({ "alg": alg })).to_string();
        let keys = [ClientKey::from_jwk(jwk.as_bytes()).unwrap()];
        for written in ["EdDSA", "Ed25519"] {
            let header = json!({ "alg": written }).to_string();
            let token = forge(&header, claims(json!({})).to_string(), &Sign::Ed);
            assert!(Assertion::parse(&token).unwrap().verify(&keys, &audiences(), now()).is_ok());
        }
    }
}

#[rstest]
#[case::another_audience(json!({ "aud": "https://elsewhere.example" }), GrantDenial::AssertionAudience)]
#[case::audience_in_a_list(json!({ "aud": [ISSUER] }), GrantDenial::AssertionAudience)]
#[case::two_audiences(json!({ "aud": [ISSUER, "https://elsewhere.example"] }), GrantDenial::AssertionAudience)]
#[case::an_audience_with_a_slash(json!({ "aud": format!("{ISSUER}/") }), GrantDenial::AssertionAudience)]
#[case::no_audience(json!({ "aud": null }), GrantDenial::AssertionMalformed)]
#[case::no_name_of_its_own(json!({ "jti": null }), GrantDenial::AssertionMalformed)]
#[case::an_empty_name(json!({ "jti": "" }), GrantDenial::AssertionMalformed)]
#[case::a_number_for_a_name(json!({ "jti": 1 }), GrantDenial::AssertionMalformed)]
#[case::no_subject(json!({ "sub": null }), GrantDenial::AssertionMalformed)]
#[case::somebody_elses_word(json!({ "iss": "GUID:x" }), GrantDenial::AssertionMalformed)]
#[case::no_end(json!({ "exp": null }), GrantDenial::AssertionMalformed)]
#[case::expired(json!({ "exp": NOW_S - 300 }), GrantDenial::AssertionTime)]
#[case::of_the_future(json!({ "iat": NOW_S + 301 }), GrantDenial::AssertionTime)]
#[case::not_valid_yet(json!({ "nbf": NOW_S + 301 }), GrantDenial::AssertionTime)]
#[case::for_two_hours(json!({ "exp": NOW_S + 7_200 }), GrantDenial::AssertionTime)]
#[case::for_a_day_that_began_long_ago(json!({ "iat": NOW_S - 86_400 }), GrantDenial::AssertionTime)]
fn what_is_wrong_with_an_assertion_has_a_code(#[case] changes: Value, #[case] code: GrantDenial) {
    assert_eq!(judged(&rs(&claims(changes))), Err(code));
}

#[rstest]
#[case::another_key(r#"{"alg":"RS256"}"#, Sign::RsaOther, GrantDenial::AssertionSignature)]
#[case::another_algorithm(r#"{"alg":"PS256"}"#, RS256, GrantDenial::AssertionSignature)]
#[case::none(r#"{"alg":"none"}"#, Sign::Bytes(b"x"), GrantDenial::AssertionMalformed)]
#[case::an_access_token(
    r#"{"alg":"RS256","typ":"at+jwt"}"#,
    RS256,
    GrantDenial::AssertionMalformed
)]
#[case::critical(r#"{"alg":"RS256","crit":["x"]}"#, RS256, GrantDenial::AssertionMalformed)]
fn only_the_clients_key_and_algorithm_sign_an_assertion(
    #[case] header: &str,
    #[case] sign: Sign<'_>,
    #[case] code: GrantDenial,
) {
    assert_eq!(judged(&forge(header, claims(json!({})).to_string(), &sign)), Err(code));
}

#[test]
fn what_a_client_signs_with_its_signer_is_good() {
    for kind in [SignerKind::P256, SignerKind::Rsa2048] {
        let signer = TokenSigner::from_pkcs8(&TokenSigner::generate(kind).unwrap(), None).unwrap();
        let key = ClientKey::from_jwk(signer.jwk().to_string().as_bytes()).unwrap();
        assert_eq!(key.thumbprint(), signer.kid());
        let id = Uuid::new_v4();
        let request = AssertionRequest { client: DEVICE, audience: ISSUER, for_key: Some("k"), id };
        let text = signer.assertion(&request, now()).unwrap();
        let assertion = Assertion::parse(&text).unwrap();
        let (found, by) =
            assertion.verify(std::slice::from_ref(&key), &audiences(), now()).unwrap();
        assert_eq!((found.jti, by.thumbprint()), (id.to_string(), key.thumbprint()));
    }
}

fn metadata(changes: Value) -> Result<ClientMetadata, GrantDenial> {
    let mut body = json!({
        "jwks": { "keys": [jwk(&spki(P256.public_key()), json!({}))] },
        "token_endpoint_auth_method": "private_key_jwt",
        "client_name": "PC\n0042",
        "redirect_uris": ["not understood"],
    });
    let members = body.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        members.insert(name.clone(), value.clone());
    }
    members.retain(|_, v| !v.is_null());
    ClientMetadata::parse(body.to_string().as_bytes()).map_err(|(denial, _)| denial)
}

#[test]
fn a_client_registers_one_public_key_and_perhaps_who_it_was() {
    let found = metadata(json!({})).unwrap();
    assert_eq!(found.name.as_deref(), Some("PC?0042"));
    assert_eq!((found.device, found.proof), (None, None));
    let again = ClientKey::from_jwk(found.key.jwk().as_bytes()).unwrap();
    assert_eq!(again.thumbprint(), found.key.thumbprint());
    let back = metadata(json!({ "device_id": DEVICE.to_lowercase(), "device_proof": "a.b.c" }));
    assert_eq!(back.unwrap().device.as_deref(), Some(DEVICE));
    for key in [spki(RSA.public_key()), spki(P384.public_key()), spki(ED.public_key())] {
        let keys = json!({ "jwks": { "keys": [jwk(&key, json!({}))] } });
        assert!(metadata(keys).is_ok());
    }
}

#[test]
fn a_key_that_is_weak_private_or_unknown_is_not_taken() {
    let p256 = spki(P256.public_key());
    let weak = json!({ "kty": "RSA", "e": "AQAB", "n": "w".repeat(171) });
    for bad in [
        weak,
        json!({ "kty": "oct", "k": "c2VjcmV0" }),
        json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" }),
        json!({ "kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(43) }),
        json!({}),
        json!("key"),
        jwk(&p256, json!({ "d": "AA" })),
        jwk(&p256, json!({ "alg": "RS256" })),
        jwk(&p256, json!({ "alg": "HS256" })),
        jwk(&p256, json!({ "use": "enc" })),
        jwk(&p256, json!({ "key_ops": ["encrypt"] })),
    ] {
        let shown = bad.to_string();
        let found = metadata(json!({ "jwks": { "keys": [bad] } })).err();
        assert_eq!(found, Some(GrantDenial::RegistrationKey), "{shown}");
    }
}

#[test]
fn metadata_that_promise_something_else_are_not_taken() {
    let one = jwk(&spki(P256.public_key()), json!({}));
    for bad in [
        json!({ "jwks": null }),
        json!({ "jwks": { "keys": [] } }),
        json!({ "jwks": { "keys": [one, one] } }),
        json!({ "jwks_uri": "https://attacker.example/jwks" }),
        json!({ "token_endpoint_auth_method": "client_secret_basic" }),
        json!({ "device_id": "GUID:" }),
        json!({ "device_id": 1 }),
        json!({ "device_proof": "a.b.c" }),
    ] {
        let shown = bad.to_string();
        assert_eq!(metadata(bad).err(), Some(GrantDenial::RegistrationMetadata), "{shown}");
    }
    for bad in [&b"[]"[..], b"", b"{", br#"{"jwks":{},"jwks":{}}"#, b"\xff"] {
        let found = ClientMetadata::parse(bad).err().map(|(denial, _)| denial);
        assert_eq!(found, Some(GrantDenial::RequestMalformed));
    }
}

#[test]
fn the_algorithm_may_be_named_beside_the_key() {
    let rsa = jwk(&spki(RSA.public_key()), json!({ "alg": null }));
    let found = metadata(json!({
        "jwks": { "keys": [rsa] }, "token_endpoint_auth_signing_alg": "PS256"
    }));
    assert_eq!(found.unwrap().key.algorithm(), Algorithm::Ps256);
}
