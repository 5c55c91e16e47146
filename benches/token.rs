//! What a token costs: found in a head, verified once, remembered afterwards.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench that cannot be set up shall stop; criterion's macros write no docs"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use sitegate::live::live;
use sitegate::purpose::Purpose;
use sitegate::token::{
    BearerToken, Blocklist, Identity, Issuer, KeySet, MintRequest, SignerKind, TokenCache,
    TokenSigner, TokenSource, Trusted, find, identify, jwks, verify,
};
use uuid::Uuid;

fn signer(kind: SignerKind) -> TokenSigner {
    let key = TokenSigner::generate(kind).expect("a key");
    TokenSigner::from_pkcs8(&key, None).expect("a signer")
}

fn tokens(c: &mut Criterion) {
    let now = Timestamp::from_second(1_790_000_000).expect("a time");
    let signers = [signer(SignerKind::P256), signer(SignerKind::Rsa2048)];
    let set = jwks(&signers).to_string();
    let (_publisher, keys) = live(KeySet::parse(&[("own", set.as_bytes())]).0);
    let issuer = Arc::new(Issuer::site("site", None, vec!["https://site.example".to_owned()]));
    let trusted = [Trusted { issuer, keys }];
    let request = MintRequest {
        purpose: Purpose::Client,
        device: Some("GUID:0A1B2C3D-0000-4000-8000-00000000000F"),
        user: None,
        audience: "urn:sccm:service",
        issuer: "https://site.example",
        hierarchy: Uuid::from_u128(1),
        lifetime_s: None,
        bound_to: None,
        id: Uuid::from_u128(2),
    };
    let minted = signers.each_ref().map(|s| s.mint(&request, now).expect("a token"));
    let [es256, rs256] = minted.each_ref().map(|t| BearerToken::parse(t.as_bytes()).expect("one"));

    let value = format!("Bearer {}", rs256.as_str());
    let mut fields = vec![("accept", &b"*/*"[..]); 12];
    fields.push(("Authorization", value.as_bytes()));
    let sources = [TokenSource::default()];
    c.bench_function("token/find in 13 fields", |b| {
        b.iter(|| find(black_box(&fields).iter().copied(), &sources))
    });
    c.bench_function("token/find none", |b| {
        b.iter(|| find(black_box(&fields[..12]).iter().copied(), &sources))
    });
    c.bench_function("token/verify ES256", |b| {
        b.iter(|| verify(black_box(&es256), &trusted, now).expect("good"))
    });
    c.bench_function("token/verify RS256", |b| {
        b.iter(|| verify(black_box(&rs256), &trusted, now).expect("good"))
    });
    let (cache, allowed) = (TokenCache::new(1024), [Arc::from("site")]);
    c.bench_function("token/hit", |b| {
        b.iter(|| identify(&cache, black_box(&rs256), &trusted, &allowed, now).expect("good"))
    });
}

/// A list of a hundred thousand entries in the way of an identity that is not on it.
fn blocklist(c: &mut Criterion) {
    let text: String = (0..50_000_u128)
        .map(|n| {
            let (token, device) = (Uuid::from_u128(n), Uuid::from_u128(!n));
            format!("[[block]]\nissuer='site'\ntoken='{token}'\n[[block]]\ndevice='{device}'\n")
        })
        .collect();
    let list = Blocklist::parse(text.as_bytes()).expect("a list");
    let who = Identity {
        device: Some("GUID:0A1B2C3D-0000-4000-8000-00000000000F".to_owned()),
        user: None,
        issuer: "site".into(),
        token_id: Some("0a1b2c3d-0000-4000-8000-00000000000f".to_owned()),
        purpose: Purpose::Client,
        bound_to: None,
    };
    let name = format!("token/blocklist of {} in {} KiB", list.len(), list.bytes() / 1024);
    c.bench_function(&name, |b| {
        b.iter(|| list.judge(black_box(&who), Some(1_790_000_000)).expect("not blocked"))
    });
    c.bench_function("token/blocklist, empty", |b| {
        let list = Blocklist::default();
        b.iter(|| list.judge(black_box(&who), Some(1_790_000_000)).expect("not blocked"))
    });
    c.bench_function("token/read a blocklist of 100,000", |b| {
        b.iter(|| Blocklist::parse(black_box(text.as_bytes())).expect("a list"))
    });
}

criterion_group!(benches, tokens, blocklist);
criterion_main!(benches);
