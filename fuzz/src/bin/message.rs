//! Messages of clients that have no token yet.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let kind = b"multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";
    let _ = sitegate::message::envelope(kind, body);
});
