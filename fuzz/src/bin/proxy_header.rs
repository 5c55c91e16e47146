//! The PROXY protocol header: an accepted one ends where it says it does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sitegate::front::judge_proxy_header;

fuzz_target!(|bytes: &[u8]| {
    if let Some(length) = judge_proxy_header(bytes) {
        assert!(length <= bytes.len() && length <= 536);
        let head = bytes.get(..length).unwrap_or_default();
        assert_eq!(judge_proxy_header(head), Some(length), "what follows plays no part");
        assert_eq!(judge_proxy_header(bytes.get(..length - 1).unwrap_or_default()), None);
    }
});
