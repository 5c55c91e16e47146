//! The values in requests: the characters that each kind of value may contain.
//!
//! Some values end up in SQL statements of the site's database. None may end a literal there, begin
//! a comment or another statement, or turn into such a character in a narrower character set.

/// The attributes with free text, by element: names of adapters, Active Directory sites and so on.
const NAMES: &[(&str, &[&str])] = &[
    ("ADSite", &["Name"]),
    ("Adapter", &["Name", "Description", "DnsSuffix"]),
    ("Domain", &["Name"]),
    ("Forest", &["Name"]),
    ("Property", &["Name", "Value"]),
];

const NAME_CHARS_MAX: usize = 256;
const WORD_BYTES_MAX: usize = 256;
/// A certificate in hexadecimal digits takes two or three KiB.
const BLOB_BYTES_MAX: usize = 32 * 1024;

/// Whether the raw value of an attribute is plain.
pub(super) fn is_plain_attribute(element: &str, attribute: &str, value: &str) -> bool {
    let named = NAMES.iter().any(|(of, names)| *of == element && names.contains(&attribute));
    if named { is_name(&value.replace("&amp;", "&")) } else { is_word(value) }
}

/// Whether the text in an element of a registration is plain: keys, certificates and signatures.
pub(super) fn is_plain_blob(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"+/=\r\n".contains(&b);
    is_word(text) || (text.len() <= BLOB_BYTES_MAX && text.bytes().all(byte))
}

/// Whether the text in a field of an envelope is plain: names, ids in braces, keys and signatures.
/// Lines and semicolons separate them, as in the lists of names that clients send.
pub(super) fn is_plain_field(text: &str) -> bool {
    text.split([';', '\r', '\n']).all(|one| {
        let one = one.trim_matches(' ');
        is_plain_blob(one) || is_name(&one.replace(['{', '}'], ""))
    })
}

/// An id, a site code, a host name, an address, a version, a number, a time, or nothing.
pub(super) fn is_word(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"._:{}-".contains(&b);
    text.len() <= WORD_BYTES_MAX && text.bytes().all(byte) && !begins_comment(text)
}

/// A free-text name: letters of any language, and punctuation that SQL does not use.
fn is_name(text: &str) -> bool {
    let mark = |c: char| " ._:-#()[]/\\+,@&*=$~!".contains(c) || matches!(c, '\u{ae}' | '\u{2122}');
    let plain = |c: char| mark(c) || is_letter(c) || is_combining(c);
    text.chars().count() <= NAME_CHARS_MAX && text.chars().all(plain) && !begins_comment(text)
}

fn begins_comment(text: &str) -> bool {
    let dashes = text.match_indices("--").any(|(at, _)| !is_in_host_name(text, at));
    dashes || text.contains("/*") || text.contains("*/")
}

/// Whether the dashes at this position belong to an `xn--` label of an internationalised host name.
fn is_in_host_name(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let after = text.get(at + 2..).unwrap_or_default();
    let label = before.rsplit('.').next().unwrap_or_default();
    label.eq_ignore_ascii_case("xn") && after.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// A letter or digit that no Windows code page maps to an apostrophe.
fn is_letter(c: char) -> bool {
    let modifier =
        matches!(c, '\u{2b0}'..='\u{2ff}' | '\u{7f4}' | '\u{7f5}' | '\u{a78b}' | '\u{a78c}');
    c.is_alphanumeric() && !modifier
}

/// Combining marks that some languages need: decomposed accents, points and vowels of Hebrew and
/// Arabic, the scripts of India, Thai, Lao, Burmese, Khmer, and kana's.
fn is_combining(c: char) -> bool {
    matches!(
        c,
        '\u{300}'..='\u{36f}'
            | '\u{591}'..='\u{5bd}'
            | '\u{64b}'..='\u{65f}'
            | '\u{900}'..='\u{dff}'
            | '\u{e31}'..='\u{e4e}'
            | '\u{eb1}'..='\u{ece}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17d3}'
            | '\u{3099}'
            | '\u{309a}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_adapters_and_machines_are_called_is_plain() {
        for name in [
            "",
            "vEthernet (Default Switch)",
            "Local Area Connection* 1",
            "Intel(R) Wi-Fi 6E AX211, 160MHz #2",
            "Realtek\u{ae} PCIe GBE / USB",
            "CN=CLIENT01,OU=Computers,DC=contoso,DC=com",
            "CONTOSO\\CLIENT01$",
            "xn--mnchen-3ya.example",
            "client.XN--mnchen-3ya.example",
            "\u{30a4}\u{30fc}\u{30b5}\u{30cd}\u{30c3}\u{30c8}",
            "Verbindung \u{fc}ber Netzwerk",
            "\u{e01}\u{e32}\u{e23}\u{e40}\u{e0a}\u{e37}\u{e48}\u{e2d}\u{e21}",
            "\u{0926}\u{093f}\u{0932}\u{094d}\u{0932}\u{0940}",
            "e\u{301}",
        ] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn what_could_end_a_literal_or_begin_a_comment_is_plain_nowhere() {
        let quotes = [
            "'",
            "\"",
            ";",
            "--",
            "/*",
            "*/",
            "`",
            "<",
            ">",
            "|",
            "%",
            "^",
            "\0",
            "\t",
            "\n",
            "\u{7f}",
            "\u{85}",
            "\u{a0}",
            "\u{ad}",
            "\u{b4}",
            "\u{2bc}",
            "\u{2c8}",
            "\u{37e}",
            "\u{5f3}",
            "\u{2013}",
            "\u{2018}",
            "\u{2019}",
            "\u{201c}",
            "\u{2032}",
            "\u{202e}",
            "\u{2212}",
            "\u{3000}",
            "\u{3003}",
            "\u{fe55}",
            "\u{ff02}",
            "\u{ff07}",
            "\u{ff0d}",
            "\u{ff1b}",
            "\u{feff}",
            "\u{fffd}",
            "xn---",
            "xn-xn----",
        ];
        for quote in quotes {
            for text in [quote.to_owned(), format!("a{quote}"), format!("a{quote}b")] {
                assert!(!is_name(&text) && !is_word(&text), "{text:?}");
                assert!([";", "\n"].contains(&quote) || !is_plain_field(&text), "{text:?}");
                assert!(!is_plain_attribute("Adapter", "Description", &text), "{text:?}");
                assert!(quote == "\n" || !is_plain_blob(&text), "{text:?}");
            }
        }
    }
}
