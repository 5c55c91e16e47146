//! The encoding of text files as editors and Windows tools write them: UTF-8 with and without a
//! byte order mark, and UTF-16 with one.
//!
//! Other bytes are returned unchanged; DER begins with neither mark. The text may hold keys, so the
//! decoded copy is wiped when dropped.

use std::ops::Deref;

use zeroize::Zeroizing;

/// The bytes of a file, decoded to UTF-8 if their byte order mark says UTF-16.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// They need no decoding.
    Same(&'a [u8]),
    /// They were UTF-16.
    Utf16(Zeroizing<Vec<u8>>),
}

impl Deref for Decoded<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Decoded::Same(bytes) => bytes,
            Decoded::Utf16(bytes) => bytes,
        }
    }
}

/// Strips the byte order mark and converts UTF-16 to UTF-8. Malformed UTF-16 is returned unchanged;
/// the parsers then reject it.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    let (rest, unit): (_, fn([u8; 2]) -> u16) = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => return Decoded::Same(rest),
        [0xFF, 0xFE, rest @ ..] => (rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => (rest, u16::from_be_bytes),
        _ => return Decoded::Same(bytes),
    };
    let (pairs, odd) = rest.as_chunks::<2>();
    // Full capacity in advance: a reallocation would leave an unwiped copy of part of a key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(pairs.len() * 3));
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let Ok(character) = decoded else { return Decoded::Same(bytes) };
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    if odd.is_empty() { Decoded::Utf16(text) } else { Decoded::Same(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_and_utf_16_decode_to_the_same_text() {
        let text = "-----BEGIN \u{fc}\u{1f511}\u{ffff}";
        let utf16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(bytes).collect()
        };
        let marked = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
        for bytes in
            [text.as_bytes().to_vec(), marked, utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)]
        {
            assert_eq!(&*decode(&bytes), text.as_bytes(), "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_no_text_stays_as_it_is() {
        for bytes in
            [&b""[..], b"\xFF", b"\xFE", b"0\x82", b"\xFF\xFEa", b"\xFF\xFE\0\xD8", b"a\0b\0"]
        {
            assert_eq!(&*decode(bytes), bytes);
        }
        for mark in [&b"\xEF\xBB\xBF"[..], b"\xFF\xFE", b"\xFE\xFF"] {
            assert_eq!(&*decode(mark), b"", "nothing behind the mark");
        }
    }
}
