//! The one reading of a request's path: as IIS on Windows would read it, or none at all.
//!
//! Never repairs. A path that a backend could read as another one is refused, since the decision
//! is made on this reading while the bytes are forwarded as they came.

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;
use percent_encoding::percent_decode_str;

use crate::denial::Denial;

/// A path in the only spelling that policy is decided on: ASCII letters in lower case, each
/// character in one form, no segment that means another.
///
/// Refused as ambiguous, besides escapes of what needs none:
/// * encoded or raw separators (`%2f`, `%5c`, `\`), double encoding (`%25`), empty segments;
/// * segments that Windows shortens (`.`, `..`, a dot or a space at the end);
/// * what NTFS, the file search or IIS give a meaning (`:` streams, `*?<>"|` wildcards, `;`
///   parameters, `~1` short names of directories, `(S(…))` session segments);
/// * bytes that are not UTF-8, and characters that a code page or a normal form turns into a
///   separator or a dot;
/// * segments that would be none of these if what is not seen were left out (soft hyphens, joiners).
///
/// A first segment, which names the namespace, is plain ASCII. So is every other one that could be
/// read as the name of a route, which is the [table's](super::RouteTable::place) business. In the
/// last segment `NAME~1.EXT` passes: packages from old media hold such names, and no route ends in a
/// short name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath(String);

impl CanonicalPath {
    /// Read a request target of at most `len_max` bytes: a path, perhaps with a query. The query
    /// is opaque: it only has to be printable ASCII.
    ///
    /// # Errors
    /// [`Denial::LimitUri`], [`Denial::PathMalformed`] for what is no path of printable ASCII
    /// (RFC 9112 §3.2.1), [`Denial::PathAmbiguous`] for one with two readings.
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
            if is_shortened(read, is_last) || !is_ascii(read) && is_normalised(read) {
                return Err(Denial::PathAmbiguous);
            }
        }
        Ok(CanonicalPath(key))
    }

    /// The path in its one spelling. It is again a path, and the same one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a canonical segment has ASCII characters alone: of those, only the space and the number
/// sign are escaped.
pub(super) fn is_ascii(segment: &str) -> bool {
    segment.split('%').skip(1).all(|escape| escape.starts_with('2'))
}

/// Append the one spelling of a segment, or `None` if it has more than one reading.
fn read_segment(segment: &str, is_first: bool, key: &mut String) -> Option<()> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            key.push(plain(byte)?);
            continue;
        }
        match escaped(&mut bytes)? {
            ascii @ 0..0x80 => push_ascii(ascii, key)?,
            _ if is_first => return None,
            lead => push_unicode(lead, &mut bytes, key)?,
        }
    }
    Some(())
}

/// A character that stands for itself in a path, in lower case.
fn plain(byte: u8) -> Option<char> {
    let stands = byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=@[]{}^`".contains(&byte);
    stands.then(|| byte.to_ascii_lowercase().into())
}

/// The byte of an escape whose `%` is taken already. `%u0053` is none.
fn escaped(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    u8::try_from(digit()? * 16 + digit()?).ok()
}

/// An escaped ASCII character of those that file names have and clients may escape. Letters,
/// digits and the marks that names of namespaces have (`$ - . _ ~`) are not among them.
fn push_ascii(byte: u8, key: &mut String) -> Option<()> {
    match byte {
        b' ' | b'#' => push_escape(byte, key),
        b'!' | b'&' | b'\'' | b'(' | b')' | b'+' | b',' | b'=' | b'@' | b'[' | b']' | b'^'
        | b'`' | b'{' | b'}' => key.push(byte.into()),
        _ => return None,
    }
    Some(())
}

/// A character of more than one byte, all of them escaped, that is only itself.
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
    // Overlong forms, surrogates and what lies beyond Unicode end here.
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

/// Characters that Windows' best-fit conversion to a code page makes a separator, a dot or a
/// percent sign of, on one system or another (the yen and won signs are backslashes in Japan and
/// Korea).
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

/// Whether a segment means another one to whoever normalises it (NFKC, which also undoes what is
/// wide, small or circled), leaves out what is not seen, or trims spaces of any kind at the end.
fn is_normalised(segment: &str) -> bool {
    let unseen = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let is_unseen = |c: char| unseen.contains(c);
    let Ok(text) = percent_decode_str(segment).decode_utf8() else { return true };
    let seen: String = text.chars().filter(|c| !is_unseen(*c)).collect();
    let read = ComposingNormalizerBorrowed::new_nfkc().normalize(&seen);
    read.is_empty()
        || text.ends_with(|c: char| c.is_whitespace() || is_unseen(c))
        || read.ends_with(|c: char| c == '.' || c.is_whitespace())
        || read.contains(['/', '\\', '%'])
        || is_session(&read)
}

/// ASP.NET takes `(S(…))`, `(A(…))` and their kin out of a path wherever they stand.
fn is_session(segment: &str) -> bool {
    let mut chars = segment.chars();
    chars.next() == Some('(')
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.next() == Some('(')
}

/// A name that NTFS may have made up for another one: up to six characters, `~`, digits. It would
/// hide the directory that a route names; at the end it is a file if it has an extension.
fn is_short_name(segment: &str, is_last: bool) -> bool {
    let (stem, extension) = match segment.split_once('.') {
        Some((stem, extension)) => (stem, Some(extension)),
        None => (segment, None),
    };
    let Some((base, digits)) = stem.rsplit_once('~') else { return false };
    let made_up = (1..=6).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && base.chars().count() <= 6
        && extension.is_none_or(|e| e.len() <= 3);
    made_up && !(is_last && extension.is_some())
}
