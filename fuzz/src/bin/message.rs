//! Messages of clients without a token: the envelope, and the request in the payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sitegate::message::{Encoding, Envelope, envelope, request};

const KIND: &[u8] = b"multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";

fuzz_target!(|body: &[u8]| {
    if let Ok(read) = envelope(KIND, body) {
        let _ = request(KIND, body, &read);
    }
    // The payload alone, so that every input reaches the reader behind the parts.
    let begin = "--aAbBcCdDv1234567890VxXyYzZ\r\n\r\n\r\n--aAbBcCdDv1234567890VxXyYzZ\r\n\r\n";
    let end = "\r\n--aAbBcCdDv1234567890VxXyYzZ--";
    let whole = [begin.as_bytes(), body, end.as_bytes()].concat();
    for encoding in [Encoding::Plain, Encoding::Zlib] {
        let target_endpoint = "MP_LocationManager".to_owned();
        let of = Envelope { source_id: None, target_endpoint, encoding, is_plain: true };
        let _ = request(KIND, &whole, &of);
    }
});
