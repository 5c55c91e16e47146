//! UTF-16 as clients write it, with only the characters of XML 1.0.

use super::MessageFault;

const BOM: char = '\u{feff}';

/// Decodes by the byte order mark; little-endian without one.
pub(super) fn decode(bytes: &[u8]) -> Result<String, MessageFault> {
    match bytes {
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        _ => decode_little_endian(bytes),
    }
}

/// Decodes text from a client's memory, with or without a byte order mark. Always little-endian:
/// there is no management point with another byte order.
pub(super) fn decode_little_endian(bytes: &[u8]) -> Result<String, MessageFault> {
    units(bytes.strip_prefix(b"\xff\xfe").unwrap_or(bytes), u16::from_le_bytes)
}

fn units(bytes: &[u8], order: fn([u8; 2]) -> u16) -> Result<String, MessageFault> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(MessageFault::Text);
    }
    let units = pairs.iter().copied().map(order);
    let mut text: String =
        char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| MessageFault::Text)?;
    // Clients may send the NUL terminator of the string in memory.
    if text.ends_with('\0') {
        text.pop();
    }
    if text.starts_with(BOM) || !text.chars().all(is_xml) {
        Err(MessageFault::Text)
    } else {
        Ok(text)
    }
}

/// XML 1.0 §2.2.
pub(super) fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
