//! Configuration files: an error has a position in the text, and can be displayed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let now = jiff::Timestamp::UNIX_EPOCH;
    if let Err(errors) = sitegate::config::parse(text, "gateway.toml", Path::new("/nowhere"), now) {
        assert!(!errors.to_string().is_empty());
    }
});
