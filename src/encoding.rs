//! The encoding of text files as people and Windows tools write them: UTF-8 with and without a byte
//! order mark, and UTF-16 with one.
//!
//! What is no such text is given back as it is: DER begins with neither mark. May hold keys, so what
//! is decoded is wiped.

use std::ops::Deref;

use zeroize::Zeroizing;

/// The bytes of a file, as UTF-8 if its mark says that they are text of another encoding.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// They were what they should be.
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

/// Take the mark away, and make UTF-8 of UTF-16. What is not well-formed UTF-16 stays what it is,
/// and is then no text that anybody reads.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    let (rest, unit): (_, fn([u8; 2]) -> u16) = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => return Decoded::Same(rest),
        [0xFF, 0xFE, rest @ ..] => (rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => (rest, u16::from_be_bytes),
        _ => return Decoded::Same(bytes),
    };
    let (pairs, odd) = rest.as_chunks::<2>();
    // As long as it can become, so that no shorter copy of a key is left behind.
    let mut text = Zeroizing::new(Vec::with_capacity(pairs.len() * 3));
    for decoded in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let Ok(character) = decoded else { return Decoded::Same(bytes) };
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    match odd.is_empty() {
        true => Decoded::Utf16(text),
        false => Decoded::Same(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_one_encoding_whatever_its_mark_was() {
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
