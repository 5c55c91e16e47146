//! The values that stand in requests: which characters they may have, by what they are.
//!
//! Some of them end up in statements of the site's database. None may end a literal there, begin a
//! comment or another statement, or become such a character in a narrower character set.

/// What stands in an attribute of a free choice: what an adapter or an Active Directory site is
/// called.
const NAMES: &[(&str, &[&str])] = &[
    ("ADSite", &["Name"]),
    ("Adapter", &["Name", "Description", "DnsSuffix"]),
    ("Domain", &["Name"]),
    ("Forest", &["Name"]),
    ("Property", &["Name", "Value"]),
];

const NAME_CHARS_MAX: usize = 256;
const WORD_BYTES_MAX: usize = 256;
/// A certificate in hexadecimal digits has two or three KiB.
const BLOB_BYTES_MAX: usize = 32 * 1024;

/// Whether the raw value of an attribute is plain.
pub(super) fn is_plain_attribute(element: &str, attribute: &str, value: &str) -> bool {
    let named = NAMES.iter().any(|(of, names)| *of == element && names.contains(&attribute));
    match named {
        true => is_name(&value.replace("&amp;", "&")),
        false => is_word(value),
    }
}

/// Whether the text in an element of a registration is plain: keys, certificates and signatures.
pub(super) fn is_plain_blob(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    is_word(text) || (text.len() <= BLOB_BYTES_MAX && text.bytes().all(byte))
}

/// An id, a site code, a host name, an address, a version, a number, a time, or nothing.
pub(super) fn is_word(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"._:{}-".contains(&b);
    text.len() <= WORD_BYTES_MAX && text.bytes().all(byte) && !text.contains("--")
}

/// A name as people and drivers give them: letters of any language, and marks that are not SQL's.
fn is_name(text: &str) -> bool {
    let mark = |c: char| " ._:-#()[]/+,@&*".contains(c) || matches!(c, '\u{ae}' | '\u{2122}');
    // Some of these letters are apostrophes in a Windows code page.
    let modifier = |c: char| {
        matches!(c, '\u{2b0}'..='\u{2ff}' | '\u{7f4}' | '\u{7f5}' | '\u{a78b}' | '\u{a78c}')
    };
    let plain = |c: char| mark(c) || (c.is_alphanumeric() && !modifier(c));
    let sql = ["--", "/*", "*/"].iter().any(|mark| text.contains(mark));
    text.chars().count() <= NAME_CHARS_MAX && text.chars().all(plain) && !sql
}
