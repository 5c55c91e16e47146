//! Path canonicalization: reads a request's path as IIS on Windows would, or rejects it as
//! ambiguous.
//!
//! A path that a backend could read as another one is rejected, never repaired: the path is
//! forwarded as received, except for escapes that change nothing.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;
use percent_encoding::percent_decode_str;

use crate::denial::Denial;

/// A path in the canonical form that policy is decided on: ASCII letters in lower case, each
/// character in one form, no segment that is equivalent to another. Escapes that change nothing
/// (RFC 3986 §6.2.2.2: letters, digits, `-._~`; and `$`) are decoded.
///
/// Rejected as ambiguous:
/// * encoded or raw separators (`%2f`, `%5c`, `\`), double encoding (`%2541`), empty segments;
/// * segments that Windows shortens (`.`, `..`, a trailing dot or space), however they are encoded;
/// * characters with a meaning to NTFS, the file search or IIS (`:` streams, `*?<>"|` wildcards,
///   `~1` short names of directories, `(S(…))` session segments);
/// * bytes that are not UTF-8, and characters that a code page or a normalization form turns into a
///   separator or a dot;
/// * segments that would be one of these without invisible characters (soft hyphens, joiners).
///
/// The first segment, which names the namespace, is plain ASCII. So is every other segment that
/// could be read as the name of a route; the [table](super::RouteTable::place) checks that. In the
/// last segment `NAME~1.EXT` is accepted: packages from old media contain such names, and no route
/// ends in a short name.
///
/// A percent sign and a semicolon are accepted where they change nothing for servers that decode
/// twice or cut off path parameters; the table also decides whether a file may have such a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath(String);

impl CanonicalPath {
    /// Parses a request target of at most `len_max` bytes: a path, optionally with a query. The
    /// query is opaque: it only has to be printable ASCII.
    ///
    /// # Errors
    /// [`Denial::LimitUri`], [`Denial::PathMalformed`] if it is not a path of printable ASCII (RFC
    /// 9112 §3.2.1), [`Denial::PathAmbiguous`] if it has two readings.
    pub fn parse(target: &[u8], len_max: usize) -> Result<Self, Denial> {
        if target.len() > len_max {
            return Err(Denial::LimitUri);
        }
        let printable = |b: &u8| (b'!'..=b'~').contains(b) && *b != b'#';
        let target = std::str::from_utf8(target).map_err(|_| Denial::PathMalformed)?;
        let path = target.split('?').next().unwrap_or_default();
        let Some(rest) = path.strip_prefix('/') else { return Err(Denial::PathMalformed) };
        if !target.bytes().all(|b| printable(&b)) {
            return Err(Denial::PathMalformed);
        }
        let mut key = String::with_capacity(path.len());
        let mut segments = rest.split('/').enumerate().peekable();
        while let Some((number, segment)) = segments.next() {
            key.push('/');
            let is_last = segments.peek().is_none();
            if segment.is_empty() && !is_last {
                return Err(Denial::PathAmbiguous);
            }
            let start = key.len();
            read_segment(segment, number == 0, &mut key).ok_or(Denial::PathAmbiguous)?;
            let read = key.get(start..).unwrap_or_default();
            let reads_otherwise = |name: &str, is_last| {
                is_shortened(name, is_last) || has_unicode(name) && is_normalised(name)
            };
            if reads_otherwise(read, is_last) || is_decoded_again(read) {
                return Err(Denial::PathAmbiguous);
            }
            // The name that is left when parameters are cut off; `..;x` is then the parent.
            if let Some((name, _)) = read.split_once(';')
                && (number == 0 || name.is_empty() || reads_otherwise(name, false))
            {
                return Err(Denial::PathAmbiguous);
            }
        }
        Ok(CanonicalPath(key))
    }

    /// Whether every name in it could be that of a route or of a folder of one: none has a percent
    /// sign or a semicolon, at which some servers begin parameters.
    pub fn is_plain(&self) -> bool {
        !is_odd(&self.0)
    }

    /// The path in canonical form. Parsing it again gives the same path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The target as it is sent to the backend, for one that has a canonical path: unnecessary escapes
/// are decoded, so that a backend that compares before it decodes sees the names that the decision
/// was made on. The query and all other escapes stay unchanged.
pub fn plainly_spelled(target: &[u8]) -> Cow<'_, [u8]> {
    // Most paths have no escape at all.
    if memchr::memchr(b'%', target).is_none() {
        return Cow::Borrowed(target);
    }
    let needs_none = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~$".contains(&byte);
    let mut plain: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(byte) = target.get(at).filter(|byte| **byte != b'?') {
        let escape = target.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let meant = escape
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| escaped(&mut digits.bytes()))
            .filter(|byte| needs_none(*byte));
        match (meant, &mut plain) {
            (Some(meant), plain) => {
                let begin = target.get(..at).unwrap_or_default();
                plain.get_or_insert_with(|| begin.to_vec()).push(meant);
            }
            (None, Some(plain)) => plain.push(*byte),
            (None, None) => {}
        }
        at += if meant.is_some() { 3 } else { 1 };
    }
    match plain {
        None => Cow::Borrowed(target),
        Some(plain) => Cow::Owned([&plain, target.get(at..).unwrap_or_default()].concat()),
    }
}

/// Whether all servers read a canonical segment or path alike: ASCII only, and without characters
/// at which some cut names or which some decode again.
pub(super) fn is_certain(segment: &str) -> bool {
    !has_unicode(segment) && !is_odd(segment)
}

/// Of ASCII characters, only the space, the number sign and the percent sign are escaped.
fn has_unicode(segment: &str) -> bool {
    segment.split('%').skip(1).any(|escape| !escape.starts_with('2'))
}

fn is_odd(path: &str) -> bool {
    path.contains(';') || path.contains("%25")
}

/// Whether a server that decodes twice would read another segment: a percent sign is followed by
/// characters that complete an escape (`%41`, `%u0041`), or by letters that could become that.
fn is_decoded_again(segment: &str) -> bool {
    let escapes = |rest: &str| {
        let hex = |at| rest.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
        rest.starts_with('u') || hex(0) && hex(1)
    };
    segment.contains("%25") && has_unicode(segment) || segment.split("%25").skip(1).any(escapes)
}

/// Appends the canonical form of a segment, or returns `None` if it has more than one reading.
fn read_segment(segment: &str, is_first: bool, key: &mut String) -> Option<()> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            key.push(plain(byte)?);
            continue;
        }
        match escaped(&mut bytes)? {
            b'%' if is_first => return None,
            ascii @ 0..0x80 => push_ascii(ascii, key)?,
            _ if is_first => return None,
            lead => push_unicode(lead, &mut bytes, key)?,
        }
    }
    Some(())
}

/// A character that may appear unescaped in a path, in lower case.
fn plain(byte: u8) -> Option<char> {
    let stands = byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=@[]{}^`".contains(&byte);
    stands.then(|| byte.to_ascii_lowercase().into())
}

/// The byte of an escape after its `%`. `%u0053` is not one.
fn escaped(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    u8::try_from(digit()? * 16 + digit()?).ok()
}

/// Appends an escaped ASCII character that may be in file names: one that needs no escape, or one
/// that must be escaped. Clients escape more than necessary; Windows PE escapes `$`.
fn push_ascii(byte: u8, key: &mut String) -> Option<()> {
    match byte {
        b' ' | b'#' | b'%' => push_escape(byte, key),
        _ => key.push(plain(byte)?),
    }
    Some(())
}

/// Appends a character of more than one byte, all of them escaped, if it has no look-alike reading.
fn push_unicode(lead: u8, bytes: &mut std::str::Bytes<'_>, key: &mut String) -> Option<()> {
    let len = match lead {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut sequence = vec![lead];
    while sequence.len() < len {
        if bytes.next()? != b'%' {
            return None;
        }
        sequence.push(escaped(bytes)?);
    }
    // Rejects overlong forms, surrogates and code points beyond Unicode.
    let character = std::str::from_utf8(&sequence).ok()?.chars().next()?;
    if character.is_control() || is_lookalike(character) {
        return None;
    }
    sequence.iter().for_each(|b| push_escape(*b, key));
    Some(())
}

fn push_escape(byte: u8, key: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |d: u8| DIGITS.get(usize::from(d)).copied().unwrap_or('0');
    key.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// Characters that Windows' best-fit conversion to a code page turns into a separator, a dot or a
/// percent sign on some systems (the yen and won signs are backslashes in Japan and Korea).
fn is_lookalike(character: char) -> bool {
    matches!(
        character,
        '\u{a5}'
            | '\u{66a}'
            | '\u{20a9}'
            | '\u{2024}'
            | '\u{2044}'
            | '\u{2215}'
            | '\u{2216}'
            | '\u{29f5}'
            | '\u{29f8}'
            | '\u{29f9}'
            | '\u{fe52}'
            | '\u{fe68}'
            | '\u{ff05}'
            | '\u{ff0e}'
            | '\u{ff0f}'
            | '\u{ff3c}'
            | '\u{ffe5}'
            | '\u{ffe6}'
    )
}

/// Whether Windows or IIS would take a canonical segment for another one.
fn is_shortened(segment: &str, is_last: bool) -> bool {
    segment.ends_with('.')
        || segment.ends_with("%20")
        || is_session(segment)
        || is_short_name(segment, is_last)
}

/// Whether a segment has another meaning after normalization (NFKC, which also undoes wide, small
/// or circled forms), without its invisible characters, or without trailing spaces of any kind.
fn is_normalised(segment: &str) -> bool {
    let unseen = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let is_unseen = |c: char| unseen.contains(c);
    let Ok(text) = percent_decode_str(segment).decode_utf8() else { return true };
    let seen: String = text.chars().filter(|c| !is_unseen(*c)).collect();
    let read = ComposingNormalizerBorrowed::new_nfkc().normalize(&seen);
    // A full-width semicolon becomes one that begins parameters.
    let is_parent = |name: &str| {
        name.is_empty()
            || name.ends_with(|c: char| c == '.' || c.is_whitespace())
            || is_short_name(name, false)
    };
    read.split_once(';').is_some_and(|(name, _)| is_parent(name))
        || read.is_empty()
        || text.ends_with(|c: char| c.is_whitespace() || is_unseen(c))
        || read.ends_with(|c: char| c == '.' || c.is_whitespace())
        || read.contains(['/', '\\', '%'])
        || is_session(&read)
}

/// ASP.NET removes `(S(…))`, `(A(…))` and similar segments from a path, wherever they are.
fn is_session(segment: &str) -> bool {
    let mut chars = segment.chars();
    chars.next() == Some('(')
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.next() == Some('(')
}

/// Whether NTFS may have generated this name as a short name: up to six characters, `~`, digits. It
/// would hide the directory that a route names; in the last segment it is a file if it has an
/// extension.
fn is_short_name(segment: &str, is_last: bool) -> bool {
    let (stem, extension) = match segment.split_once('.') {
        Some((stem, extension)) => (stem, Some(extension)),
        None => (segment, None),
    };
    let Some((base, digits)) = stem.rsplit_once('~') else { return false };
    let made_up = (1..=6).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && percent_decode_str(base).decode_utf8_lossy().chars().count() <= 6
        && extension.is_none_or(|e| e.len() <= 3);
    made_up && !(is_last && extension.is_some())
}
