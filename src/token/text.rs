//! Text from tokens: which values may become a header value or a log field, and the escaping of
//! others.
//!
//! Never lets a control character, a quote or an unbounded string through.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, utf8_percent_encode};
use uuid::Uuid;

/// The longest value of an identity claim, in bytes.
pub(super) const CLAIM_BYTES_MAX: usize = 256;

/// The longest quotation of a token in a log, in characters.
const QUOTE_CHARS_MAX: usize = 64;

/// Decodes base64url by RFC 7515 §2: no padding, no other alphabet, and no spare bits, so that a
/// byte string has exactly one encoding.
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Encodes base64url by RFC 7515 §2.
pub(super) fn to_base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether `value` may be an identity. It becomes a header value and a log field, so it must be
/// printable ASCII without spaces at its ends, and bounded.
pub(crate) fn is_identity_text(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= CLAIM_BYTES_MAX
        && value.bytes().all(|b| (b' '..=b'~').contains(&b))
        && !value.starts_with(' ')
        && !value.ends_with(' ')
}

/// Percent-encodes an id of another issuer as an identity: non-ASCII as UTF-8 (RFC 3986 §2.5), and
/// every `%`, because two ids with the same encoding would be one person. `None` if the result is
/// still not a valid identity.
pub(super) fn identity(value: &str) -> Option<String> {
    const PERCENT: &AsciiSet = &AsciiSet::EMPTY.add(b'%');
    if value.len() > CLAIM_BYTES_MAX || value.chars().any(char::is_control) {
        return None;
    }
    let encoded = utf8_percent_encode(value, PERCENT).to_string();
    is_identity_text(&encoded).then_some(encoded)
}

/// A GUID in lower case with hyphens, from any of its usual spellings; `None` if it is not a GUID.
pub(super) fn guid(value: &str) -> Option<String> {
    Uuid::try_parse(value).ok().map(|id| id.hyphenated().to_string())
}

/// A device of the site, `GUID:` and a GUID, in the spelling that Configuration Manager uses: upper
/// case. `None` for anything else.
pub(super) fn site_device(value: &str) -> Option<String> {
    let (prefix, id) = value.split_at_checked(5)?;
    // Exactly the hyphenated form: braces and URNs are GUIDs too, but never occur in a client's id.
    if !prefix.eq_ignore_ascii_case("GUID:") || id.len() != 36 {
        return None;
    }
    guid(id).map(|id| format!("GUID:{}", id.to_ascii_uppercase()))
}

/// Text from a client for a log line: printable ASCII, quotes and backslashes replaced, truncated.
pub(super) fn printable(text: &str) -> String {
    let harmless = |c: char| match c {
        '\'' | '"' | '\\' | '`' | '$' => '?',
        ' '..='~' => c,
        _ => '?',
    };
    let mut shown: String = text.chars().take(QUOTE_CHARS_MAX).map(harmless).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_spelling() {
        let id = "GUID:0A1B2C3D-0000-4000-8000-00000000000F";
        assert_eq!(site_device(&id.to_lowercase()).as_deref(), Some(id));
        for bad in ["", "GUID:", "0A1B2C3D-0000-4000-8000-00000000000F", "GUID:x", "GÜID:"] {
            assert_eq!(site_device(bad), None, "{bad}");
        }
        assert_eq!(site_device("GUID:{0A1B2C3D-0000-4000-8000-00000000000F}"), None);
        assert_eq!(site_device("GUID:0A1B2C3D000040008000000000000000F"), None);
    }

    #[test]
    fn what_is_shown_is_one_bounded_line() {
        let shown = printable(&format!("a\r\nb\u{202e}'\"${{jndi:x}}{}", "y".repeat(500)));
        assert!(shown.bytes().all(|b| (b' '..=b'~').contains(&b)), "{shown}");
        assert!(shown.starts_with("a??b????{jndi:x}") && shown.len() <= QUOTE_CHARS_MAX + 3);
    }

    #[test]
    fn an_identity_is_printable_and_bounded() {
        assert!(is_identity_text("alice@contoso.com") && is_identity_text("CN=Alice Doe"));
        for bad in ["", " a", "a ", "a\r\nSitegate-User: root", "ä", "a\0", &"x".repeat(257)] {
            assert!(!is_identity_text(bad), "{bad:?}");
        }
    }

    #[test]
    fn an_id_has_one_encoding_and_an_encoding_one_id() {
        for (id, encoded) in [
            ("alice@contoso.com", "alice@contoso.com"),
            ("J\u{fc}rgen", "J%C3%BCrgen"),
            ("Ju\u{308}rgen", "Ju%CC%88rgen"),
            ("J%C3%BCrgen", "J%25C3%25BCrgen"),
            ("100%", "100%25"),
            ("\u{202e}a\u{a0}", "%E2%80%AEa%C2%A0"),
        ] {
            assert_eq!(identity(id).as_deref(), Some(encoded), "{id:?}");
        }
        let long = "\u{fc}".repeat(43);
        for bad in ["", " a", "a ", "a\r\nb", "\u{fc}\0", "\u{7f}", "\u{85}", &long] {
            assert_eq!(identity(bad), None, "{bad:?}");
        }
    }
}
