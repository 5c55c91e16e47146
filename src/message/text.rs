//! UTF-16 as clients write it, and only characters that XML 1.0 has.

use super::Fault;

const BOM: char = '\u{feff}';

/// Decode by the byte order mark; little-endian without one.
pub(super) fn decode(bytes: &[u8]) -> Result<String, Fault> {
    match bytes {
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        _ => decode_little_endian(bytes),
    }
}

/// Decode what is held in the memory of a client, with a mark or without: a management point on
/// another byte order there is none.
pub(super) fn decode_little_endian(bytes: &[u8]) -> Result<String, Fault> {
    units(bytes.strip_prefix(b"\xff\xfe").unwrap_or(bytes), u16::from_le_bytes)
}

fn units(bytes: &[u8], order: fn([u8; 2]) -> u16) -> Result<String, Fault> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Fault::Text);
    }
    let units = pairs.iter().copied().map(order);
    let mut text: String =
        char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| Fault::Text)?;
    // Texts of clients may end with the terminator that they have in memory.
    if text.ends_with('\0') {
        text.pop();
    }
    match text.starts_with(BOM) || !text.chars().all(is_xml) {
        true => Err(Fault::Text),
        false => Ok(text),
    }
}

/// XML 1.0 §2.2.
pub(super) fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
