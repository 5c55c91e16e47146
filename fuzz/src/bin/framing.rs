//! Heads of requests and responses, and chunked bodies, split at any point.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sitegate::front::Chunks;
use sitegate::gateway::{judge_answer, judge_raw};

fn data(body: &[u8], step: usize) -> Option<(Vec<u8>, bool)> {
    let (mut chunks, mut data) = (Chunks::default(), Vec::new());
    for mut part in body.chunks(step) {
        while let Some(piece) = chunks.next(&mut part).ok()? {
            data.extend_from_slice(piece);
        }
    }
    Some((data, chunks.is_done()))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    if judge_raw(bytes).is_ok() {
        assert!(bytes.ends_with(b"\r\n\r\n") && !bytes.contains(&0));
    }
    if let Ok(Some(head)) = judge_answer(bytes) {
        assert!(bytes.get(..head).is_some_and(|head| head.ends_with(b"\r\n\r\n")));
    }
    assert_eq!(data(bytes, usize::from(step) + 1), data(bytes, bytes.len().max(1)));
});
