//! Forges tokens: keys of every kind, headers and claims as raw text, correct and wrong signatures.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    self as sig, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::live::{Publisher, live};
use crate::token::material::Material;
use crate::token::text::to_base64url;
use crate::token::*;

pub(super) const NOW_S: i64 = 1_790_000_000;
pub(super) const TENANT: Uuid = Uuid::from_u128(0x72f988bf_86f1_41af_91ab_2d7cd011db47);
pub(super) const HIERARCHY: Uuid = Uuid::from_u128(0xcdcc5e91_0000_4000_8000_000000000000);
pub(super) const DEVICE: &str = "GUID:0A1B2C3D-0000-4000-8000-00000000000F";
pub(super) const ENTRA_DEVICE: &str = "11111111-2222-4333-8444-555555555555";
pub(super) const ISS_ENTRA: &str = "https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/";
pub(super) const ISS_SITE: &str = "urn:sccm:oauth2:cdcc5e91-0000-4000-8000-000000000000";

pub(super) fn now() -> Timestamp {
    at(0)
}

/// The time this many seconds after the tests' present.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW_S + seconds).unwrap()
}

pub(super) static RSA: LazyLock<RsaKeyPair> = LazyLock::new(rsa);
pub(super) static RSA_OTHER: LazyLock<RsaKeyPair> = LazyLock::new(rsa);
pub(super) static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| ecdsa(&sig::ECDSA_P256_SHA256_FIXED_SIGNING));
pub(super) static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| ecdsa(&sig::ECDSA_P384_SHA384_FIXED_SIGNING));
pub(super) static ED: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::generate().unwrap());

fn rsa() -> RsaKeyPair {
    RsaKeyPair::generate(KeySize::Rsa2048).unwrap()
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    EcdsaKeyPair::generate(algorithm).unwrap()
}

pub(super) fn spki<K: AsDer<PublicKeyX509Der<'static>>>(key: &K) -> Vec<u8> {
    key.as_der().unwrap().as_ref().to_vec()
}

/// The JWK of a public key, with members added, or removed by null.
pub(super) fn jwk(spki: &[u8], members: Value) -> Value {
    let mut jwk = Material::from_spki(spki).unwrap().to_jwk();
    for (name, value) in members.as_object().unwrap() {
        jwk.insert(name.clone(), value.clone());
    }
    jwk.retain(|_, v| !v.is_null());
    Value::Object(jwk)
}

pub(super) fn key_file(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// All keys of this module, by the kid that the tests use.
pub(super) fn all_keys() -> Vec<Value> {
    let rsa = spki(RSA.public_key());
    vec![
        jwk(&rsa, json!({ "kid": "rsa", "alg": "RS256", "use": "sig" })),
        jwk(&spki(P256.public_key()), json!({ "kid": "p256", "x5t": "p256-x5t" })),
        jwk(&spki(P384.public_key()), json!({ "kid": "p384" })),
        jwk(&spki(ED.public_key()), json!({ "kid": "ed" })),
    ]
}

/// How to sign a token.
pub(super) enum Sign<'a> {
    Rsa(&'static dyn RsaEncoding),
    RsaOther,
    P256,
    P256Der,
    P384,
    Ed,
    Hmac(hmac::Algorithm, &'a [u8]),
    Bytes(&'a [u8]),
}

pub(super) const RS256: Sign<'_> = Sign::Rsa(&sig::RSA_PKCS1_SHA256);

impl Sign<'_> {
    fn over(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |pair: &RsaKeyPair, encoding| {
            let mut out = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &random, message, &mut out).unwrap();
            out
        };
        match self {
            Sign::Rsa(encoding) => rsa(&RSA, *encoding),
            Sign::RsaOther => rsa(&RSA_OTHER, &sig::RSA_PKCS1_SHA256),
            Sign::P256 => P256.sign(&random, message).unwrap().as_ref().to_vec(),
            Sign::P256Der => {
                let pkcs8 = P256.to_pkcs8v1().unwrap();
                let algorithm = &sig::ECDSA_P256_SHA256_ASN1_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Sign::P384 => P384.sign(&random, message).unwrap().as_ref().to_vec(),
            Sign::Ed => ED.sign(message).as_ref().to_vec(),
            Sign::Hmac(algorithm, secret) => {
                let key = hmac::Key::new(*algorithm, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Sign::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

/// A token with this header and payload, valid or not.
pub(super) fn forge(
    header: impl AsRef<[u8]>,
    payload: impl AsRef<[u8]>,
    sign: &Sign<'_>,
) -> String {
    let input = format!("{}.{}", to_base64url(header), to_base64url(payload));
    let signature = to_base64url(sign.over(input.as_bytes()));
    format!("{input}.{signature}")
}

pub(super) fn rs256(payload: &Value) -> String {
    forge(r#"{"alg":"RS256","typ":"JWT","kid":"rsa"}"#, payload.to_string(), &RS256)
}

/// The claims of a valid Entra device token, with members changed, or removed by null.
pub(super) fn entra(changes: Value) -> Value {
    let claims = json!({
        "iss": ISS_ENTRA, "aud": "https://ConfigMgrService", "exp": NOW_S + 3600, "nbf": NOW_S - 60,
        "iat": NOW_S - 60, "tid": TENANT, "ver": "1.0", "idtyp": "device", "oid": "o",
        "deviceid": ENTRA_DEVICE, "sub": ENTRA_DEVICE, "uti": "abc",
    });
    changed(claims, changes)
}

/// The claims of a valid client token of the site, with members changed.
pub(super) fn site(changes: Value) -> Value {
    let claims = json!({
        "SCCMTokenCategory": "SCCMToken", "Type": "Device", "TenantId": HIERARCHY,
        "UniqueId": "6d1e1a40-1111-4222-8333-444444444444", "iss": ISS_SITE,
        "aud": "urn:sccm:service", "exp": NOW_S + 3600, "nbf": NOW_S - 60, "sub": DEVICE,
    });
    changed(claims, changes)
}

fn changed(mut claims: Value, changes: Value) -> Value {
    let members = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        members.insert(name.clone(), value.clone());
    }
    members.retain(|_, v| !v.is_null());
    claims
}

/// An issuer with these keys.
pub(super) fn trust(issuer: Issuer, keys: &[Value]) -> (Publisher<KeySet>, Trusted) {
    let (set, problems) = KeySet::parse(&[("keys.json", &key_file(keys))]);
    assert_eq!(problems, [], "the forge's own keys are good");
    let (publisher, keys) = live(set);
    (publisher, Trusted { issuer: Arc::new(issuer), keys })
}

/// Entra, the site and an OpenID Connect provider, all with the same keys: only `iss` distinguishes
/// them.
pub(super) static TRUSTED: LazyLock<Vec<Trusted>> = LazyLock::new(|| {
    let claims = OidcClaims { device: Some("device_id".into()), user: Some("email".into()) };
    let mut oidc = Issuer::oidc("oidc", "https://id.example", claims);
    oidc.audiences = vec!["mp".into()];
    [
        Issuer::entra("entra", TENANT, vec![]),
        Issuer::site("site", Some(HIERARCHY), vec!["https://site.example/.well-known".into()]),
        oidc,
    ]
    .map(|issuer| trust(issuer, &all_keys()).1)
    .into()
});

/// Checks a token's text completely, from its shape to its admission.
pub(super) fn check(token: &str) -> Result<Identity, Refusal> {
    let parsed =
        BearerToken::parse(token.as_bytes()).map_err(|denial| Refusal::new(denial, "its shape"))?;
    verify(&parsed, &TRUSTED, now()).map(|verified| verified.identity().clone())
}

/// The denial of a token that must be refused.
pub(super) fn denied(token: &str) -> crate::denial::Denial {
    check(token).expect_err("this token must be refused").denial
}
