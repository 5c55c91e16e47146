//! Tokens against a key set that signed none of them: all are refused.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sitegate::live::live;
use sitegate::token::{BearerToken, Issuer, KeySet, OidcClaims, Trusted, verify};

const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"p256","alg":"ES256",
"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

static TRUSTED: LazyLock<Vec<Trusted>> = LazyLock::new(|| {
    let claims = OidcClaims { device: Some("device".to_owned()), user: Some("sub".to_owned()) };
    let mut issuer = Issuer::oidc("fuzz", "https://issuer.example", claims);
    issuer.audiences = vec!["urn:sccm:service".to_owned()];
    let (keys, problems) = KeySet::parse(&[("keys", KEYS.as_bytes())]);
    assert!(keys.len() == 1 && problems.is_empty());
    let (publisher, keys) = live(keys);
    std::mem::forget(publisher);
    vec![Trusted { issuer: issuer.into(), keys }]
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(token) = BearerToken::parse(bytes) else { return };
    let now = jiff::Timestamp::UNIX_EPOCH;
    assert!(verify(&token, &TRUSTED, now).is_err(), "nobody has the key");
});
