//! The cost of a token: found in a head, verified once, cached afterwards.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench that cannot be set up shall stop; criterion's macros write no docs"
)]

mod material;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use material::Tokens;
use sitegate::token::{Blocklist, TokenCache, TokenSource, find, identify, verify};

fn tokens(c: &mut Criterion) {
    let Tokens { es256, rs256, trusted, allowed, now, .. } = &material::tokens();
    let value = format!("Bearer {rs256}");
    let (es256, rs256) = (&material::bearer(es256), &material::bearer(rs256));
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
        b.iter(|| verify(black_box(es256), trusted, *now).expect("good"))
    });
    c.bench_function("token/verify RS256", |b| {
        b.iter(|| verify(black_box(rs256), trusted, *now).expect("good"))
    });
    let cache = TokenCache::new(1024);
    c.bench_function("token/hit", |b| {
        b.iter(|| identify(&cache, black_box(rs256), trusted, allowed, *now).expect("good"))
    });
}

/// A lookup of an identity in a blocklist of a hundred thousand entries that does not contain it.
fn blocklist(c: &mut Criterion) {
    let (list, who) = material::blocklist();
    let name = format!("token/blocklist of {} in {} KiB", list.len(), list.bytes() / 1024);
    c.bench_function(&name, |b| {
        b.iter(|| list.judge(black_box(&who), Some(1_790_000_000)).expect("not blocked"))
    });
    c.bench_function("token/blocklist, empty", |b| {
        let list = Blocklist::default();
        b.iter(|| list.judge(black_box(&who), Some(1_790_000_000)).expect("not blocked"))
    });
    let text = material::long_blocklist();
    c.bench_function("token/read a blocklist of 100,000", |b| {
        b.iter(|| Blocklist::parse(black_box(text.as_bytes())).expect("a list"))
    });
}

criterion_group!(benches, tokens, blocklist);
criterion_main!(benches);
