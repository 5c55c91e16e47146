//! Finds the bearer token of a request: in which header it may be sent, and that it is sent only
//! once.
//!
//! Reads header fields only, never queries, cookies or trailers. Decodes nothing.

use std::fmt;

use crate::denial::Denial;

/// The longest token that is parsed, in bytes. Entra tokens with many groups stay under 8 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A header field in which clients send their token, and the scheme before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSource {
    header: String,
    scheme: Option<String>,
}

impl TokenSource {
    /// Creates a source if the scheme is a token (RFC 9110 §5.6.2), and the header name has only
    /// letters, digits, `-` and `_`: no other names pass to a backend. Without a scheme the whole
    /// value is the token.
    pub fn new(header: &str, scheme: Option<&str>) -> Option<Self> {
        let is_token = |s: &str| {
            let special = |b| b"!#$%&'*+-.^_`|~".contains(&b);
            !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || special(b))
        };
        let is_plain = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let valid = is_token(header) && is_plain(header) && scheme.is_none_or(is_token);
        valid.then(|| TokenSource {
            header: header.to_ascii_lowercase(),
            scheme: scheme.map(str::to_owned),
        })
    }

    /// The name of the header field, in lower case.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The authentication scheme before the token, if one is expected.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// The credential in a field's value, or `None` if the value is for another scheme.
    fn credential<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let value = trim(value);
        let Some(scheme) = &self.scheme else { return Some(value) };
        let (word, rest) = match value.iter().position(|b| *b == b' ') {
            Some(at) => value.split_at_checked(at)?,
            None => (value, &[][..]),
        };
        word.eq_ignore_ascii_case(scheme.as_bytes()).then(|| trim(rest))
    }
}

impl Default for TokenSource {
    /// `Authorization: Bearer` (RFC 6750 §2.1).
    fn default() -> Self {
        TokenSource { header: "authorization".into(), scheme: Some("Bearer".into()) }
    }
}

/// A compact JWS (RFC 7515 §7.1), checked only by its shape: three non-empty base64url segments,
/// bounded.
///
/// It is not verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BearerToken<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signing_input: &'a str,
    whole: &'a str,
}

impl<'a> BearerToken<'a> {
    /// Parses a token by its shape.
    ///
    /// # Errors
    /// [`Denial::TokenType`] for five segments (an encrypted token, RFC 7516 §7.1),
    /// [`Denial::TokenAmbiguous`] for a list of credentials, [`Denial::LimitHead`] if it is too
    /// long to be parsed, else [`Denial::TokenMalformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Denial> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(Denial::LimitHead);
        }
        let mut dots = 0_usize;
        for byte in bytes {
            if ALPHABET.contains(*byte) {
                dots += usize::from(*byte == b'.');
            } else if bytes.contains(&b',') {
                return Err(Denial::TokenAmbiguous);
            } else {
                return Err(Denial::TokenMalformed);
            }
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| Denial::TokenMalformed)?;
        if dots == 4 {
            return Err(Denial::TokenType);
        }
        let (signing_input, signature) = whole.rsplit_once('.').ok_or(Denial::TokenMalformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(Denial::TokenMalformed)?;
        // A length of 4n + 1 characters is not valid base64.
        let whole_bytes = |s: &str| !s.is_empty() && s.len() % 4 != 1;
        if dots != 2 || ![header, payload, signature].into_iter().all(whole_bytes) {
            return Err(Denial::TokenMalformed);
        }
        Ok(BearerToken { header, payload, signature, signing_input, whole })
    }

    /// The whole token. A secret: never log it.
    pub fn as_str(&self) -> &'a str {
        self.whole
    }

    pub(super) fn header(&self) -> &'a str {
        self.header
    }

    pub(super) fn payload(&self) -> &'a str {
        self.payload
    }

    pub(super) fn signature(&self) -> &'a str {
        self.signature
    }

    /// The signing input (RFC 7515 §5.2).
    pub(super) fn signing_input(&self) -> &'a [u8] {
        self.signing_input.as_bytes()
    }
}

impl fmt::Debug for BearerToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken({} bytes)", self.whole.len())
    }
}

/// Finds the token of a request among all its header fields.
///
/// Names are compared without case; a twin spelled with `_` is another name. A field of a source
/// that carries another scheme (Basic, Negotiate) is not a token.
///
/// # Errors
/// [`Denial::TokenAmbiguous`] for more than one credential, or if a source's field is repeated,
/// even with another scheme: parsers that use the first and parsers that use the last field would
/// disagree. Otherwise as [`BearerToken::parse`].
pub fn find<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    sources: &[TokenSource],
) -> Result<Option<BearerToken<'a>>, Denial> {
    let mut seen = 0_u64;
    let mut found = None;
    for (name, value) in fields {
        let names = |s: &&TokenSource| s.header.eq_ignore_ascii_case(name);
        let Some(place) = sources.iter().position(|s| names(&s)) else { continue };
        // Sources past the 64th share a bit, which can only cause more refusals.
        let bit = 1 << place.min(63);
        if seen & bit != 0 {
            return Err(Denial::TokenAmbiguous);
        }
        seen |= bit;
        let credential = sources.iter().filter(names).find_map(|s| s.credential(value));
        if credential.is_some() && found.is_some() {
            return Err(Denial::TokenAmbiguous);
        }
        found = found.or(credential);
    }
    found.map(BearerToken::parse).transpose()
}

/// The bytes that may occur in a compact JWS.
struct Alphabet([bool; 256]);

static ALPHABET: Alphabet = Alphabet::new();

impl Alphabet {
    #[expect(clippy::indexing_slicing, reason = "a byte indexes a table of 256")]
    const fn new() -> Self {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let b = byte as u8;
            table[byte] = b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
            byte += 1;
        }
        Alphabet(table)
    }

    #[expect(clippy::indexing_slicing, reason = "a byte indexes a table of 256")]
    fn contains(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }
}

/// Strips the optional white space around a field's value (RFC 9110 §5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "eyJ0.eyJh.c2ln";

    fn look(fields: &[(&str, &str)]) -> Result<Option<String>, Denial> {
        let sources =
            [TokenSource::default(), TokenSource::new("X-CCM-Token", None).expect("valid")];
        let fields = fields.iter().map(|(n, v)| (*n, v.as_bytes()));
        Ok(find(fields, &sources)?.map(|t| t.as_str().to_owned()))
    }

    #[test]
    fn one_credential_is_found_wherever_it_may_stand() {
        for field in [
            ("authorization", format!("Bearer {GOOD}")),
            ("AUTHORIZATION", format!("bEARER   {GOOD} ")),
            ("Authorization", format!("\tbearer {GOOD}\t")),
            ("x-ccm-token", GOOD.to_owned()),
        ] {
            let found = look(&[("host", "mp"), (field.0, &field.1), ("cookie", "a=b")]);
            assert_eq!(found, Ok(Some(GOOD.into())), "{field:?}");
        }
    }

    #[test]
    fn what_is_no_credential_of_ours_is_none() {
        for fields in [
            &[][..],
            &[("authorization", "Basic dTpw")],
            &[("authorization", "Negotiate TlRMTVNTUAAB")],
            &[("authorization", "Bearerx eyJ0.eyJh.c2ln")],
            &[("authorization", "eyJ0.eyJh.c2ln")],
            &[("authorization", "Basic dTpw, Bearer eyJ0.eyJh.c2ln")],
            &[("x_ccm_token", GOOD)],
            &[("x-ccm_token", GOOD)],
            &[("cookie", "authorization=Bearer eyJ0.eyJh.c2ln")],
            &[("proxy-authorization", "Bearer eyJ0.eyJh.c2ln")],
        ] {
            assert_eq!(look(fields), Ok(None), "{fields:?}");
        }
    }

    #[test]
    fn more_than_one_credential_is_ambiguous_in_either_order() {
        let bearer = "Bearer eyJ0.eyJh.c2ln";
        for mut fields in [
            [("authorization", bearer), ("authorization", bearer)],
            [("authorization", bearer), ("Authorization", "Bearer x.y.z")],
            [("authorization", bearer), ("authorization", "Basic dTpw")],
            [("authorization", bearer), ("authorization", "")],
            [("authorization", "Basic dTpw"), ("authorization", "Negotiate x")],
            [("authorization", bearer), ("x-ccm-token", GOOD)],
            [("host", "mp"), ("authorization", "Bearer eyJ0.eyJh.c2ln, eyJ0.eyJh.c2ln")],
            [("host", "mp"), ("authorization", "Bearer eyJ0.eyJh.c2ln,Bearer x.y.z")],
            [("host", "mp"), ("x-ccm-token", "eyJ0.eyJh.c2ln, ")],
        ] {
            assert_eq!(look(&fields), Err(Denial::TokenAmbiguous), "{fields:?}");
            fields.reverse();
            assert_eq!(look(&fields), Err(Denial::TokenAmbiguous), "{fields:?}");
        }
        // Another scheme in one source is not a credential, so a token in another source is the
        // only one.
        let windows = [("authorization", "Negotiate x"), ("x-ccm-token", GOOD)];
        assert_eq!(look(&windows), Ok(Some(GOOD.into())));
    }

    #[test]
    fn what_is_not_three_base64url_segments_is_malformed() {
        let dots = ".".repeat(2000);
        for value in [
            "",
            ".",
            "..",
            "a",
            "aaaa.bbbb",
            "aaaa.bbbb.",
            ".bbbb.cccc",
            "aaaa..cccc",
            "aaaa.bbbb.cccc.dddd",
            ".aaaa.bbbb.cccc",
            "aaaa.bbbb.cccc.",
            "aaaa.bbbb.cc c",
            "aaaa.bbbb.cc==",
            "aaaa.bb+b.cccc",
            "aaaa.bb/b.cccc",
            "aa\taa.bbbb.cccc",
            "aaaaa.bbbb.cccc",
            "aaaa.bbbb.ccc\u{e4}",
            "aaaa.bbbb.cccc\n",
            &dots,
            "{\"payload\":\"x\"}",
            "aaaa.bbbb.cccc dddd",
            "a.b.c.d.e.f",
        ] {
            let field = [("x-ccm-token", value)];
            assert_eq!(look(&field), Err(Denial::TokenMalformed), "{value:?}");
        }
        assert_eq!(look(&[("authorization", "Bearer")]), Err(Denial::TokenMalformed));
        assert_eq!(look(&[("authorization", "Bearer ")]), Err(Denial::TokenMalformed));
    }

    #[test]
    fn an_overlong_token_is_refused_as_limit_head() {
        let long = format!("{}.eyJh.c2ln", "A".repeat(TOKEN_BYTES_MAX));
        assert_eq!(look(&[("x-ccm-token", &long)]), Err(Denial::LimitHead));
    }

    #[test]
    fn five_segments_are_another_kind_of_token() {
        for value in ["aaaa.bbbb.cccc.dddd.eeee", "aaaa..cccc.dddd.eeee", "...."] {
            assert_eq!(look(&[("x-ccm-token", value)]), Err(Denial::TokenType), "{value}");
        }
    }

    #[test]
    fn a_source_is_two_words() {
        assert_eq!(TokenSource::new("", None), None);
        assert_eq!(TokenSource::new("a b", None), None);
        assert_eq!(TokenSource::new("X.Token", None), None);
        assert_eq!(TokenSource::new("a", Some("b:")), None);
        assert_eq!(TokenSource::new("A", Some("B")).map(|s| s.header), Some("a".into()));
    }

    proptest! {
        #[test]
        fn finding_never_panics_and_finds_only_what_has_the_shape(
            names in prop::collection::vec("(?i)authorization|x-ccm-token|[ -~]{0,9}", 0..4),
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
        ) {
            let sources = [TokenSource::default(), TokenSource::new("x-ccm-token", None).unwrap()];
            let fields = names.iter().zip(&values).map(|(n, v)| (n.as_str(), v.as_slice()));
            if let Ok(Some(token)) = find(fields, &sources) {
                prop_assert_eq!(token.as_str().split('.').count(), 3);
            }
        }
    }
}
