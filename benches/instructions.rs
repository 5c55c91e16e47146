//! The number of instructions of a request in the pure modules. A count does not depend on the
//! machine's load, so that a change of a few per cent shows.
//!
//! `make instructions`; needs valgrind.

#![expect(missing_docs, unused_qualifications, reason = "gungraun's macros write code like that")]

mod material;

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use material::{ANSWER, HEAD, TARGET, Tokens, bearer};
use sitegate::gateway::{judge_answer, judge_raw};
use sitegate::route::{CanonicalPath, RouteTable};
use sitegate::token::{Blocklist, Identity, TokenCache, TokenSource, find, identify, verify};

#[library_benchmark]
fn framing_of_a_head() -> bool {
    judge_raw(black_box(HEAD)).is_ok()
}

#[library_benchmark]
fn answers_head() -> bool {
    judge_answer(black_box(ANSWER)).is_ok()
}

#[library_benchmark]
fn canonical_path() -> Option<CanonicalPath> {
    CanonicalPath::parse(black_box(TARGET), 16 * 1024).ok()
}

#[library_benchmark]
#[bench::all_presets(setup = material::routes)]
fn route(routes: (RouteTable, CanonicalPath)) -> bool {
    let (table, path) = black_box(&routes);
    let found = table.find(path, "GET").is_ok();
    // Dropping them must not be counted.
    std::mem::forget(routes);
    found
}

fn sources() -> [TokenSource; 1] {
    [TokenSource::default()]
}

#[library_benchmark]
#[bench::among_five_fields(setup = sources)]
fn token_found(sources: [TokenSource; 1]) -> bool {
    let value = b"Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl";
    let fields = [
        ("Host", &b"dp01.contoso.com"[..]),
        ("User-Agent", b"SMS CCM 5.0 TS"),
        ("Accept", b"*/*"),
        ("Range", b"bytes=0-1048575"),
        ("Authorization", value),
    ];
    let found = find(black_box(fields).into_iter(), &sources).is_ok_and(|token| token.is_some());
    std::mem::forget(sources);
    found
}

#[library_benchmark]
#[bench::es256(setup = material::tokens)]
fn token_verified_es256(tokens: Tokens) -> bool {
    let good = verify(&bearer(black_box(&tokens.es256)), &tokens.trusted, tokens.now).is_ok();
    std::mem::forget(tokens);
    good
}

#[library_benchmark]
#[bench::rs256(setup = material::tokens)]
fn token_verified_rs256(tokens: Tokens) -> bool {
    let good = verify(&bearer(black_box(&tokens.rs256)), &tokens.trusted, tokens.now).is_ok();
    std::mem::forget(tokens);
    good
}

fn remembered() -> (Tokens, TokenCache) {
    let (tokens, cache) = (material::tokens(), TokenCache::new(1024));
    let seen =
        identify(&cache, &bearer(&tokens.rs256), &tokens.trusted, &tokens.allowed, tokens.now);
    assert!(seen.is_ok());
    (tokens, cache)
}

#[library_benchmark]
#[bench::once(setup = remembered)]
fn token_remembered(all: (Tokens, TokenCache)) -> bool {
    let (tokens, cache) = black_box(&all);
    let seen =
        identify(cache, &bearer(&tokens.rs256), &tokens.trusted, &tokens.allowed, tokens.now);
    let good = seen.is_ok();
    std::mem::forget((seen, all));
    good
}

#[library_benchmark]
#[bench::of_100_000(setup = material::blocklist)]
fn blocklist(all: (Blocklist, Identity)) -> bool {
    let (list, who) = black_box(&all);
    let free = list.judge(who, Some(1_790_000_000)).is_ok();
    std::mem::forget(all);
    free
}

library_benchmark_group!(
    name = request,
    benchmarks = [
        framing_of_a_head,
        canonical_path,
        route,
        token_found,
        token_remembered,
        token_verified_es256,
        token_verified_rs256,
        blocklist,
        answers_head
    ]
);

main!(library_benchmark_groups = request);
