//! Properties for all inputs: a changed token never passes, and nothing panics.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::forge::*;
use crate::denial::Denial;
use crate::token::*;

static GOOD: LazyLock<[String; 3]> = LazyLock::new(|| {
    let payload = site(json!({})).to_string();
    [
        forge(r#"{"alg":"RS256","kid":"rsa","typ":"JWT"}"#, &payload, &RS256),
        forge(r#"{"alg":"ES256","kid":"p256","typ":"JWT"}"#, &payload, &Sign::P256),
        forge(r#"{"alg":"EdDSA","kid":"ed","typ":"JWT"}"#, &payload, &Sign::Ed),
    ]
});

fn passes(bytes: &[u8]) -> bool {
    BearerToken::parse(bytes).is_ok_and(|token| verify(&token, &TRUSTED, now()).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_token_that_differs_in_one_byte_passes(
        which in 0..3_usize, at in any::<prop::sample::Index>(), other in any::<u8>(),
    ) {
        let mut token = GOOD[which].clone().into_bytes();
        let place = at.index(token.len());
        prop_assume!(token[place] != other);
        token[place] = other;
        prop_assert!(!passes(&token));
    }

    #[test]
    fn no_token_with_a_byte_more_or_less_passes(
        which in 0..3_usize, at in any::<prop::sample::Index>(), extra in any::<u8>(),
    ) {
        let good = GOOD[which].as_bytes();
        let mut longer = good.to_vec();
        longer.insert(at.index(good.len() + 1), extra);
        let mut shorter = good.to_vec();
        shorter.remove(at.index(good.len()));
        prop_assert!(!passes(&longer) && !passes(&shorter));
    }

    #[test]
    fn verifying_never_panics_on_any_header_or_claims(
        header in "\\{?(\"(alg|kid|typ|crit)\":(\"RS256\"|\"rsa\"|1|null|\\[\\])?,?){0,4}\\}?",
        payload in "\\{?(\"(iss|exp|aud|sub)\":(\"x\"|-?[0-9]{1,40}(e[0-9]{1,9})?|\\[\\]|\\{\\}),?){0,5}\\}?",
        raw in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for token in [
            forge(&header, &payload, &Sign::Bytes(&raw)),
            forge(r#"{"alg":"RS256","kid":"rsa"}"#, &payload, &Sign::Bytes(&raw)),
            forge(&raw, &raw, &Sign::Bytes(&raw)),
        ] {
            prop_assert!(!passes(token.as_bytes()));
            let _ = inspect(token.as_bytes(), &TRUSTED, &Blocklist::default(), now()).to_string();
        }
        let _ = inspect(&raw, &TRUSTED, &Blocklist::default(), now()).to_string();
    }

    #[test]
    fn reading_key_files_never_panics(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        let spliced = [&b"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\""[..], &raw].concat();
        for bytes in [&raw, &spliced] {
            prop_assert!(KeySet::parse(&[("f", bytes)]).0.is_empty());
        }
    }

    #[test]
    fn what_passes_carries_nothing_but_printable_text(user in "\\PC{0,40}|[ -~]{1,300}") {
        let token = rs256(&site(json!({ "Type": "User", "UserId": user, "sub": null })));
        match check(&token) {
            Ok(identity) => {
                let user = identity.user.unwrap();
                prop_assert!(user.len() <= 256 && user.bytes().all(|b| (b' '..=b'~').contains(&b)));
            }
            Err(refusal) => prop_assert_eq!(refusal.denial, Denial::TokenClaims),
        }
    }
}
