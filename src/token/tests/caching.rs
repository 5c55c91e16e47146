//! The token cache: hits, and all events that invalidate an entry.

use std::sync::Arc;

use aws_lc_rs::signature::KeyPair as _;
use serde_json::json;

use super::forge::*;
use crate::denial::Denial;
use crate::token::*;

fn ask(cache: &TokenCache, token: &str, trusted: &[Trusted], second: i64) -> Result<bool, Denial> {
    let allowed = [Arc::from("entra"), Arc::from("site")].into();
    let token = BearerToken::parse(token.as_bytes()).unwrap();
    identify(cache, &token, trusted, &allowed, at(second)).map(|i| i.hit).map_err(|r| r.denial)
}

#[test]
fn a_token_is_verified_once() {
    let (cache, token) = (TokenCache::new(16), rs256(&site(json!({}))));
    assert_eq!(ask(&cache, &token, &TRUSTED, 0), Ok(false));
    assert_eq!(ask(&cache, &token, &TRUSTED, 1), Ok(true));
}

#[test]
fn refusals_are_never_remembered() {
    let cache = TokenCache::new(16);
    let forged =
        forge(r#"{"alg":"RS256","kid":"rsa"}"#, site(json!({})).to_string(), &Sign::RsaOther);
    let expired = rs256(&site(json!({ "exp": NOW_S - 301 })));
    let elsewhere = rs256(&site(json!({ "aud": "x" })));
    for token in [&forged, &expired, &elsewhere] {
        assert!(ask(&cache, token, &TRUSTED, 0).is_err());
    }
    assert!(cache.is_empty());
}

#[test]
fn an_entry_ends_with_its_token_and_survives_a_clock_that_jumps() {
    let cache = TokenCache::new(16);
    let token = rs256(&site(json!({ "exp": NOW_S + 100, "nbf": NOW_S })));
    assert_eq!(ask(&cache, &token, &TRUSTED, 0), Ok(false));
    assert_eq!(ask(&cache, &token, &TRUSTED, -3600), Err(Denial::TokenNotYetValid));
    assert_eq!(ask(&cache, &token, &TRUSTED, 399), Ok(true));
    assert_eq!(ask(&cache, &token, &TRUSTED, 400), Err(Denial::TokenExpired));
    assert!(cache.is_empty());
}

#[test]
fn a_removed_key_stops_working_at_once() {
    let cache = TokenCache::new(16);
    let (publisher, trusted) = trust(Issuer::site("site", Some(HIERARCHY), vec![]), &all_keys());
    let trusted = [trusted];
    let token = rs256(&site(json!({})));
    assert_eq!(ask(&cache, &token, &trusted, 0), Ok(false));
    assert_eq!(ask(&cache, &token, &trusted, 0), Ok(true));
    publisher.publish(KeySet::parse(&[("k", &key_file(&all_keys()))]).0);
    assert_eq!(ask(&cache, &token, &trusted, 0), Ok(false), "a new set, though it is equal");
    let without = jwk(&spki(ED.public_key()), json!({ "kid": "ed" }));
    publisher.publish(KeySet::parse(&[("k", &key_file(&[without]))]).0);
    assert_eq!(ask(&cache, &token, &trusted, 0), Err(Denial::TokenSignature));
    assert!(cache.is_empty());
}

#[test]
fn a_new_policy_is_asked_again() {
    let cache = TokenCache::new(16);
    let token = rs256(&site(json!({})));
    let policy = Issuer::site("site", Some(HIERARCHY), vec![]);
    let (_keep, first) = trust(policy.clone(), &all_keys());
    let keys = first.keys.clone();
    assert_eq!(ask(&cache, &token, &[first], 0), Ok(false));
    let other = Issuer { audiences: vec!["x".into()], ..policy.clone() };
    let second = Trusted { issuer: Arc::new(other), keys: keys.clone() };
    assert_eq!(ask(&cache, &token, &[second], 0), Err(Denial::TokenAudience));
    let renamed = Trusted { issuer: Arc::new(Issuer { name: "x".into(), ..policy }), keys };
    assert_eq!(ask(&cache, &token, &[renamed], 0), Err(Denial::TokenIssuer));
}

#[test]
fn a_disallowed_issuer_is_refused_on_cache_hit_and_miss() {
    let cache = TokenCache::new(16);
    let text = rs256(&site(json!({})));
    let token = BearerToken::parse(text.as_bytes()).unwrap();
    let only = |name: &str| {
        let allowed = [Arc::from(name)].into();
        identify(&cache, &token, &TRUSTED, &allowed, now()).map(|i| i.hit).map_err(|r| r.denial)
    };
    assert_eq!(only("entra"), Err(Denial::TokenIssuer));
    assert_eq!(only("site"), Ok(false));
    assert_eq!(only("entra"), Err(Denial::TokenIssuer));
    assert_eq!(only("site"), Ok(true));
}

#[test]
fn a_fingerprint_is_the_beginning_of_the_hash() {
    assert_eq!(Fingerprint::of(b"abc").to_string(), "ba7816bf");
    let (cache, text) = (TokenCache::new(1), rs256(&site(json!({}))));
    let token = BearerToken::parse(text.as_bytes()).unwrap();
    let found = identify(&cache, &token, &TRUSTED, &[Arc::from("site")].into(), now()).unwrap();
    assert_eq!(found.fingerprint, Fingerprint::of(text.as_bytes()));
    assert!(!format!("{found:?} {token:?}").contains(token.signature()));
}

#[test]
fn the_cache_is_bounded() {
    let cache = TokenCache::new(8);
    for i in 0..40 {
        let claims = site(json!({ "UniqueId": format!("{i}") }));
        let token = forge(r#"{"alg":"EdDSA","kid":"ed"}"#, claims.to_string(), &Sign::Ed);
        assert_eq!(ask(&cache, &token, &TRUSTED, 0), Ok(false));
    }
    assert!(cache.len() <= 8, "{}", cache.len());
}
