//! The blocklist file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(faults) = sitegate::token::Blocklist::parse(bytes) {
        assert!(!faults.is_empty());
    }
});
