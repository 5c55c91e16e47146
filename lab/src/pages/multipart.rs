//! HTTP range requests: parses `Range`, and builds multipart/byteranges bodies.

use std::io;
use std::ops::Range;

use bytes::Bytes;

/// The most parts of one response, and their most bytes.
const PARTS_MAX: usize = 16;
const PARTS_BYTES_MAX: u64 = 8 << 20;

/// The multipart boundary.
pub(super) const BOUNDARY: &str = "simulated-byteranges";

/// The request of a `Range` header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WantedRanges {
    /// The whole file: no range, or one that need not be understood (RFC 9110 §14.2).
    Whole,
    /// One part.
    One(Range<u64>),
    /// Several parts.
    Several(Vec<Range<u64>>),
    /// No satisfiable range.
    Nothing,
}

/// Parses the value of a `Range` header.
pub(super) fn wanted(value: &str, len: u64) -> WantedRanges {
    let Some(set) = value.strip_prefix("bytes=") else { return WantedRanges::Whole };
    let parts: Vec<Range<u64>> = set.split(',').filter_map(|one| range(one, len)).collect();
    let sum = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.end - part.start));
    match parts.as_slice() {
        [] => WantedRanges::Nothing,
        [one] => WantedRanges::One(one.clone()),
        _ if parts.len() > PARTS_MAX || sum > PARTS_BYTES_MAX => WantedRanges::Whole,
        _ => WantedRanges::Several(parts),
    }
}

/// `a-b`, `a-` and `-n` (RFC 9110 §14.1.2); never empty.
fn range(value: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = value.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => len.saturating_sub(suffix.parse().ok()?)..len,
        (first, "") => first.parse().ok()?..len,
        (first, last) => first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?.min(len),
    };
    (range.start < range.end).then_some(range)
}

/// The body with several parts, each with its `Content-Range`.
pub(super) fn body(
    kind: &str,
    len: u64,
    parts: &[Range<u64>],
    read: impl Fn(Range<u64>) -> io::Result<Bytes>,
) -> io::Result<Bytes> {
    let mut body = Vec::new();
    for part in parts {
        let place = format!("bytes {}-{}/{len}", part.start, part.end - 1);
        let head =
            format!("\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Range: {place}\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(&read(part.clone())?);
    }
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_has_them() {
        for (asked, range) in [
            ("bytes=0-9", 0..10),
            ("bytes=90-", 90..100),
            ("bytes=-5", 95..100),
            ("bytes=90-500", 90..100),
            ("bytes=200-, 3-4", 3..5),
        ] {
            assert_eq!(wanted(asked, 100), WantedRanges::One(range), "{asked}");
        }
        for none in ["bytes=100-", "bytes=9-5", "bytes=-0", "bytes=x-y"] {
            assert_eq!(wanted(none, 100), WantedRanges::Nothing, "{none}");
        }
        assert_eq!(wanted("lines=1-2", 100), WantedRanges::Whole);
        assert_eq!(wanted("bytes=0-1,5-6", 100), WantedRanges::Several(vec![0..2, 5..7]));
        assert_eq!(wanted(&format!("bytes={}", "0-1,".repeat(40)), 100), WantedRanges::Whole);
    }

    #[test]
    fn several_parts_each_say_where_they_are_from() {
        let read =
            |range: Range<u64>| Ok(Bytes::from(vec![b'x'; (range.end - range.start) as usize]));
        let body = body("a/b", 100, &[0..2, 5..8], read).unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("Content-Range: bytes 0-1/100\r\n\r\nxx\r\n--"), "{text}");
        assert!(text.contains("Content-Range: bytes 5-7/100\r\n\r\nxxx\r\n--"), "{text}");
    }
}
