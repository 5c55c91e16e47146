//! A blocklist file, written by an operator or a script: TOML, accepted completely or not at all.

use std::fmt;
use std::ops::Range;

use jiff::Timestamp;
use serde::Deserialize;
use toml::Spanned;

use super::{ALWAYS, About, Blocklist, BlocklistBuilder, IssuerKey, second};
use crate::token::text::is_identity_text;

/// The largest blocklist that is read, in bytes: enough for 200,000 entries with reasons.
pub const BLOCKLIST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The entries that are parsed at once: a parsed entry needs forty times the memory of a rule.
const ENTRIES_AT_ONCE: usize = 1_000;
/// The line that begins an entry.
const ENTRY: &str = "[[block]]";
/// The largest number of faults that are reported for one file.
const FAULTS_MAX: usize = 20;

/// A fault in a blocklist file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlocklistFault {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The fault and its remedy.
    pub message: String,
}

impl fmt::Display for BlocklistFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl Blocklist {
    /// Parses a list: TOML, with a table `[[block]]` for each entry (docs/blocklist.md).
    ///
    /// # Errors
    /// All faults, up to twenty: a list is accepted completely or not at all.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<BlocklistFault>> {
        Blocklist::parse_by(bytes, ENTRIES_AT_ONCE)
    }

    /// The same, parsing so many entries at once.
    pub(in crate::token) fn parse_by(
        bytes: &[u8],
        entries_at_once: usize,
    ) -> Result<Self, Vec<BlocklistFault>> {
        let whole = |message: &str| {
            vec![BlocklistFault { line: 1, column: 1, message: message.to_owned() }]
        };
        if bytes.len() > BLOCKLIST_BYTES_MAX {
            return Err(whole("the list is larger than 32 MiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| whole("the list is not UTF-8 text"))?;
        let mut list = BlocklistBuilder::default();
        let mut faults = Vec::new();
        let cuts = cuts(text, entries_at_once);
        let ends = cuts.iter().copied().chain([text.len()]);
        for (start, end) in std::iter::once(0).chain(cuts.iter().copied()).zip(ends) {
            let within = |span: Range<usize>| span.start + start..span.end + start;
            let typed = text.get(start..end).unwrap_or_default();
            let typed: TypedBlock = toml::from_str(typed).map_err(|error| {
                let message = error.message().trim_end().replace('\n', "; ");
                vec![fault(text, within(error.span().unwrap_or(0..0)), message)]
            })?;
            for entry in typed.block {
                if let Err((at, message)) = add(&mut list, &entry)
                    && faults.len() < FAULTS_MAX
                {
                    faults.push(fault(text, within(at), message.to_owned()));
                }
            }
        }
        if faults.is_empty() { Ok(list.build()) } else { Err(faults) }
    }
}

fn add(list: &mut BlocklistBuilder, entry: &Spanned<Entry>) -> Result<(), Wrong> {
    let (issuer, about, before) = entry.get_ref().read(entry.span())?;
    list.rule(issuer.map(IssuerKey::Name), about, before);
    Ok(())
}

/// Returns where to divide a list into pieces that are parsed one by one, each with the meaning that
/// it has within the whole. A list in which a line of an entry could be something else is one piece.
fn cuts(text: &str, entries_at_once: usize) -> Vec<usize> {
    let mut starts = text.match_indices(ENTRY).map(|(at, _)| at).filter(|at| {
        let line = text.get(..*at).and_then(|before| before.rsplit('\n').next());
        line.is_some_and(str::is_empty)
    });
    let Some(first) = starts.next() else { return Vec::new() };
    let mut before = text.get(..first).unwrap_or_default().lines().map(str::trim);
    let is_plain = before.all(|line| line.is_empty() || line.starts_with('#'));
    // Within a string of several lines such a line begins nothing.
    if !is_plain || text.contains("\"\"\"") || text.contains("'''") {
        return Vec::new();
    }
    let further = starts.enumerate().filter(|(n, _)| (n + 1) % entries_at_once == 0);
    further.map(|(_, at)| at).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedBlock {
    #[serde(default)]
    block: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    issuer: Option<Spanned<String>>,
    token: Option<Spanned<String>>,
    device: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    issued_before: Option<Spanned<toml::value::Datetime>>,
    /// A comment of the operator; its type is checked, and it is not stored.
    #[expect(dead_code, reason = "only its type matters")]
    reason: Option<String>,
}

type Wrong = (Range<usize>, &'static str);

impl Entry {
    fn read(&self, at: Range<usize>) -> Result<(Option<&str>, About<'_>, i64), Wrong> {
        let texts = [&self.issuer, &self.token, &self.device, &self.user];
        for text in texts.into_iter().flatten() {
            if !is_identity_text(text.get_ref()) {
                return Err((
                    text.span(),
                    "must be printable ASCII of 1 to 256 bytes, all else percent-encoded as in the access log",
                ));
            }
        }
        let issuer = self.issuer.as_ref().map(|i| i.get_ref().as_str());
        let before = match &self.issued_before {
            None => ALWAYS,
            Some(typed) => {
                let moment: Option<Timestamp> = typed.get_ref().to_string().parse().ok();
                let hint = "issued_before needs date, time and offset: 2026-11-01T00:00:00Z";
                second(moment.ok_or((typed.span(), hint))?)
            }
        };
        let about = match (&self.token, &self.device, &self.user) {
            (Some(token), None, None) => {
                if issuer.is_none() {
                    let hint = "token needs issuer beside it: ids are unique for one issuer alone";
                    return Err((token.span(), hint));
                }
                if let Some(typed) = &self.issued_before {
                    return Err((
                        typed.span(),
                        "one token is blocked whole, without issued_before",
                    ));
                }
                About::Token(token.get_ref())
            }
            (None, Some(device), None) => About::Device(device.get_ref()),
            (None, None, Some(user)) => About::User(user.get_ref()),
            (None, None, None) if issuer.is_some() && self.issued_before.is_some() => {
                About::Everything
            }
            (None, None, None) => {
                let hint = "an entry needs token, device or user, or issuer with issued_before";
                return Err((at, hint));
            }
            _ => return Err((at, "an entry has one of token, device and user; write two entries")),
        };
        Ok((issuer, about, before))
    }
}

fn fault(text: &str, span: Range<usize>, message: String) -> BlocklistFault {
    let before = text.get(..span.start.min(text.len())).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    // The message may quote the file, and a log line must stay one line.
    let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    BlocklistFault { line, column, message }
}
