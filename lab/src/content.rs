//! Generated content of any size without storage: each byte is computed from the file's name and
//! its offset, so that every range can be checked by name. Or the content of real files.
//!
//! Not random in a sense that matters to security.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sitegate::os::read_exact_at;

/// The chunk size for sending and hashing.
const PIECE_BYTES: u64 = 64 * 1024;
/// The size of a file if its name does not begin with one.
const USUAL_BYTES: u64 = 64 * 1024;

/// A file of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    seed: u64,
    /// Its size in bytes.
    pub len: u64,
}

impl Content {
    /// The file of this name in this package; as in IIS, case does not matter. Leading digits of
    /// the name are its size in bytes: `3145728.wim` has three mebibytes.
    pub fn of(package: &str, file: &str) -> Self {
        let digits: String = file.chars().take_while(char::is_ascii_digit).collect();
        // FNV-1a: small, and the same everywhere.
        let seed = [package, "/", file].iter().flat_map(|part| part.bytes()).fold(
            0xcbf2_9ce4_8422_2325_u64,
            |hash, byte| {
                (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
            },
        );
        Content { seed, len: digits.parse().unwrap_or(USUAL_BYTES) }
    }

    /// The bytes of a range, clipped to the file. For ranges that fit in memory.
    pub fn bytes(&self, range: Range<u64>) -> Bytes {
        let end = range.end.min(self.len);
        let mut bytes = Vec::with_capacity(end.saturating_sub(range.start) as usize + 16);
        let first = range.start / 8;
        for block in first..end.div_ceil(8).max(first) {
            bytes.extend_from_slice(&self.block(block).to_le_bytes());
        }
        let wanted = end.saturating_sub(range.start) as usize;
        bytes.drain(..((range.start % 8) as usize).min(bytes.len()));
        bytes.truncate(wanted);
        bytes.into()
    }

    /// The SHA-256 of the whole file, lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut at = 0;
        while at < self.len {
            hash.update(&self.bytes(at..at + PIECE_BYTES));
            at += PIECE_BYTES;
        }
        hex(hash.finish().as_ref())
    }

    /// A range of it as a body that is generated while it is sent.
    pub fn body(&self, range: Range<u64>) -> ContentBody {
        let end = range.end.min(self.len);
        ContentBody { source: ContentSource::Made(*self), at: range.start, end }
    }

    /// A tag that distinguishes this content from other content (for ETag).
    pub fn tag(&self) -> u64 {
        self.seed ^ self.len
    }

    /// SplitMix64 of the seed and the block's number: any block can be computed without the earlier
    /// ones.
    fn block(&self, number: u64) -> u64 {
        let mut z = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The source of a file's bytes.
#[derive(Clone, Debug)]
pub(crate) enum ContentSource {
    /// Generated from its name.
    Made(Content),
    /// From the disk: the file, its length, and a tag that distinguishes it from earlier versions.
    Stored(Arc<File>, u64, u64),
}

impl ContentSource {
    pub(crate) fn len(&self) -> u64 {
        match self {
            ContentSource::Made(content) => content.len,
            ContentSource::Stored(_, len, _) => *len,
        }
    }

    pub(crate) fn tag(&self) -> u64 {
        match self {
            ContentSource::Made(content) => content.tag(),
            ContentSource::Stored(_, _, tag) => *tag,
        }
    }

    /// The bytes of a range that fits in memory.
    pub(crate) fn bytes(&self, range: Range<u64>) -> io::Result<Bytes> {
        match self {
            ContentSource::Made(content) => Ok(content.bytes(range)),
            ContentSource::Stored(file, len, _) => {
                let wanted = range.end.min(*len).saturating_sub(range.start);
                let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
                read_exact_at(file, &mut bytes, range.start)?;
                Ok(bytes.into())
            }
        }
    }

    pub(crate) fn body(&self, range: Range<u64>) -> ContentBody {
        let end = range.end.min(self.len());
        ContentBody { source: self.clone(), at: range.start, end }
    }
}

/// A range of a file, as a response body.
#[derive(Debug)]
pub struct ContentBody {
    source: ContentSource,
    at: u64,
    end: u64,
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        let next = (self.at + PIECE_BYTES).min(self.end);
        let piece = self.source.bytes(self.at..next);
        self.at = next;
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.at))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_ranges_put_together_are_the_whole() {
        let content = Content::of("PS100012", "1003.bin");
        let whole = content.bytes(0..content.len);
        assert_eq!(whole.len(), 1003);
        for cut in [0, 1, 7, 8, 9, 500, 1002, 1003] {
            let both = [content.bytes(0..cut), content.bytes(cut..5000)].concat();
            assert_eq!(both, whole, "cut at {cut}");
        }
        assert!(content.bytes(2000..3000).is_empty());
    }

    #[test]
    fn the_name_decides_and_its_case_does_not() {
        assert_eq!(Content::of("ps100012", "A.BIN"), Content::of("PS100012", "a.bin"));
        assert_ne!(Content::of("PS100012", "a.bin"), Content::of("PS100012", "b.bin"));
        assert_eq!(Content::of("P", "a.bin").len, USUAL_BYTES);
    }
}
