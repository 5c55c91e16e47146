//! Messages that arrive in pieces: parsing the first part gives the same result as parsing the
//! whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sitegate::message::{FirstPart, envelope};

const KIND: &[u8] = b"multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";

fuzz_target!(|input: (u8, &[u8])| {
    let (step, body) = input;
    let Ok(mut part) = FirstPart::new(KIND) else { return };
    let mut here = 0;
    let found = loop {
        match part.end(&body[..here]) {
            Ok(Some(end)) => break envelope(KIND, &body[..end]),
            Ok(None) if here == body.len() => break envelope(KIND, body),
            Ok(None) => here = body.len().min(here + usize::from(step) + 1),
            Err(fault) => break Err(fault),
        }
    };
    assert_eq!(found, envelope(KIND, body));
});
