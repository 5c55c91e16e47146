//! Key files of token issuers: JWKS, PEM, certificates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sitegate::token::{KEYS_MAX, KeySet};

fuzz_target!(|bytes: &[u8]| {
    let (keys, _) = KeySet::parse(&[("file", bytes)]);
    assert!(keys.len() <= KEYS_MAX);
});
