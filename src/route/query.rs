//! The permitted queries of a route: a word, and optionally arguments, in a form that every parser
//! reads alike.
//!
//! Never decodes. Queries that would need decoding are refused, because the bytes are forwarded
//! unchanged.

use std::borrow::Cow;

use crate::denial::Denial;

const WORD_BYTES_MAX: usize = 64;
/// A word this short may occur in an id by chance.
const SITE_CODE_BYTES: usize = 3;
const ARGUMENTS_MAX: usize = 8;
const ARGUMENT_BYTES_MAX: usize = 128;

/// The words that a route's queries may begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queries {
    /// Those open to every client, in capitals.
    pub open: Vec<Cow<'static, str>>,
    /// Those that only boot media need, in capitals: for the AltAuth networks.
    pub media: &'static [&'static str],
}

/// Which clients may send a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryAccess {
    /// All.
    Open,
    /// Those in an AltAuth network.
    Media,
    /// None.
    Closed,
}

impl Queries {
    /// The word that the query of a target begins with, and which clients may send it.
    ///
    /// # Errors
    /// [`Denial::PathQuery`] if it has more than one reading.
    pub fn judge<'t>(&self, target: &'t [u8]) -> Result<(&'t str, QueryAccess), Denial> {
        let target = std::str::from_utf8(target).map_err(|_| Denial::PathQuery)?;
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mut pieces = query.split('&');
        let word = pieces.next().unwrap_or_default();
        if !word.is_empty() && !is_word(word) {
            return Err(Denial::PathQuery);
        }
        let mut names: Vec<&str> = Vec::new();
        for argument in pieces {
            let (name, value) = argument.split_once('=').unwrap_or((argument, "x"));
            let twice = names.iter().any(|other| other.eq_ignore_ascii_case(name));
            let sound = is_plain(name) && is_plain(value) && names.len() < ARGUMENTS_MAX;
            // A parser that searches the whole query would find another word.
            if twice || !sound || self.has_a_word(argument) {
                return Err(Denial::PathQuery);
            }
            names.push(name);
        }
        if word.is_empty() && !names.is_empty() {
            return Err(Denial::PathQuery);
        }
        let is = |known: &&str| known.eq_ignore_ascii_case(word);
        let asked = match () {
            () if self.open.iter().any(|open| is(&&**open)) => QueryAccess::Open,
            () if self.media.iter().any(is) => QueryAccess::Media,
            () => QueryAccess::Closed,
        };
        Ok((word, asked))
    }

    fn has_a_word(&self, argument: &str) -> bool {
        let argument = argument.to_ascii_uppercase();
        let open = self.open.iter().map(|word| &**word);
        let mut words = open.chain(self.media.iter().copied());
        words.any(|word| {
            argument == word || (word.len() > SITE_CODE_BYTES && argument.contains(word))
        })
    }
}

/// Whether a text may be the word of a query: letters and digits.
pub fn is_word(text: &str) -> bool {
    (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A site code, an address, an id or a number.
fn is_plain(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b"._:{}-".contains(&b);
    let sized = (1..=ARGUMENT_BYTES_MAX).contains(&text.len());
    sized && text.bytes().all(byte) && !text.contains("--")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queries() -> Queries {
        Queries {
            open: vec!["MPLIST".into(), "MPLOCATION".into()],
            media: &["MPKEYINFORMATIONMEDIA"],
        }
    }

    fn judged(query: &str) -> Result<QueryAccess, Denial> {
        let target = format!("/SMS_MP/.sms_aut?{query}");
        queries().judge(target.as_bytes()).map(|(_, asked)| asked)
    }

    #[test]
    fn a_word_is_known_in_any_case_and_with_plain_arguments() {
        for query in [
            "MPLIST",
            "mplist",
            "MpList&PS1",
            "MPLOCATION&ir=192.168.1.1&ip=192.168.1.0",
            "MPLOCATION&ir=fd00::1",
            "MPLIST&GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C",
            "MPLIST&{5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C}",
        ] {
            assert_eq!(judged(query), Ok(QueryAccess::Open), "{query}");
        }
        assert_eq!(judged("mpkeyinformationMEDIA"), Ok(QueryAccess::Media));
        for query in ["", "MPLIST2", "MPLIS", "MPKEYINFORMATION", "x", "x&y=z"] {
            assert_eq!(judged(query), Ok(QueryAccess::Closed), "{query}");
        }
        assert_eq!(
            queries().judge(b"/SMS_MP/.sms_aut").map(|(_, asked)| asked),
            Ok(QueryAccess::Closed)
        );
    }

    #[test]
    fn a_query_with_more_than_one_reading_is_refused() {
        for query in [
            "MPLIST%31",
            "MPLIST%26MPKEYINFORMATIONMEDIA",
            "%4DPLIST",
            "MPLIST+",
            "MPLIST&a+b",
            "MPLIST=1",
            "MPLIST&",
            "MPLIST&&PS1",
            "&MPLIST",
            "MPLIST&=",
            "MPLIST&a=",
            "MPLIST&=a",
            "MPLIST&a=b=c",
            "MPLIST&a=1&A=2",
            "MPLIST&PS1&ps1",
            "MPLIST?",
            "MPLIST?MPLIST",
            "MPLIST&MPLIST",
            "MPLIST&MPKEYINFORMATIONMEDIA",
            "MPLIST&x=mpkeyinformationmedia",
            "MPLIST&ip=1';exec",
            "MPLIST&ip=1--",
            "MPLIST&ip=\"1\"",
            "MPLIST;MPLIST",
            "MPLIST/x",
            "MPLIST&a&b&c&d&e&f&g&h&i",
        ] {
            assert_eq!(judged(query), Err(Denial::PathQuery), "{query}");
        }
        assert_eq!(judged(&format!("MPLIST&{}", "a".repeat(129))), Err(Denial::PathQuery));
    }

    proptest! {
        /// An accepted query begins with one of the words, and contains no other.
        #[test]
        fn no_accepted_query_contains_a_word_for_media(
            query in "(MPLIST|mplocation|MPKEYINFORMATIONMEDIA|&|=|%41|a|1|\\+|\\?|;){0,6}",
        ) {
            if judged(&query) == Ok(QueryAccess::Open) {
                prop_assert!(!query.to_ascii_uppercase().contains("MEDIA"));
                prop_assert!(!query.contains(['%', '+', '?', ';']));
            }
        }
    }
}
