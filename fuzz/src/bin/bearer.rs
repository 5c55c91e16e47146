//! Token sources of a request: at most one token is found, and it is part of the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sitegate::token::{BearerToken, TokenSource, find};

fuzz_target!(|fields: Vec<(String, Vec<u8>)>| {
    let sources: Vec<TokenSource> = [("authorization", Some("Bearer")), ("ccmtoken", None)]
        .into_iter()
        .filter_map(|(header, scheme)| TokenSource::new(header, scheme))
        .collect();
    let given = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    if let Ok(Some(token)) = find(given, &sources) {
        let text = token.as_str().as_bytes();
        assert!(fields.iter().any(|(_, value)| value.ends_with(text)));
        assert!(BearerToken::parse(text).is_ok());
    }
});
