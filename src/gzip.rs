//! Compressed content (RFC 1952), in memory.

use std::io::{self, Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Compresses content.
pub fn compress(content: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = gzip.write_all(content);
    gzip.finish().unwrap_or_default()
}

/// The content; `None` if it has more than so many bytes.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] or [`io::ErrorKind::UnexpectedEof`] if it is damaged.
pub fn decompress(compressed: &[u8], len_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    let limit = u64::try_from(len_max).unwrap_or(u64::MAX).saturating_add(1);
    let len = GzDecoder::new(compressed).take(limit).read_to_end(&mut content)?;
    Ok((len <= len_max).then_some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_has_a_limit_whatever_its_compressed_size() {
        let content = vec![b'x'; 100_000];
        let compressed = compress(&content);
        assert!(compressed.len() < 1_000);
        assert_eq!(decompress(&compressed, 100_000).unwrap(), Some(content));
        assert_eq!(decompress(&compressed, 99_999).unwrap(), None);
        assert_eq!(decompress(&compress(b""), 0).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn damaged_content_is_an_error() {
        let compressed = compress(b"some content");
        for damaged in [&compressed[..compressed.len() - 5], &compressed[1..], b"", b"text"] {
            assert!(decompress(damaged, 1_000).is_err(), "{damaged:?}");
        }
    }
}
