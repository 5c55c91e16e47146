//! Words in lines of 80 columns, and times as people read them.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::clock::span;

/// The widest line.
const WIDTH: usize = 80;

/// The words of a text in lines that begin with that many spaces; a word that is longer than a line
/// has one of its own.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    hanging("", text, indent)
}

/// The same, with `first` in the place of the first line's spaces.
pub(super) fn hanging(first: &str, text: &str, indent: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (first, rest) = (format!("{first:<indent$}"), " ".repeat(indent));
    let lines = textwrap::Options::new(WIDTH)
        .initial_indent(&first)
        .subsequent_indent(&rest)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    format!("{}\n", textwrap::fill(&words, lines).trim_end())
}

/// Without anything that a terminal would act upon, or that changes the order of what is read:
/// certificates, backends and clients write what they like.
pub fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.escape_unicode().to_string())
}

/// The same for JSON, where all of it stands in strings: as JSON escapes it (RFC 8259 §7).
pub(super) fn plain_json(text: &str) -> Cow<'_, str> {
    // None of them is beyond the basic plane.
    escaped(text, |c| format!("\\u{:04x}", u32::from(c)))
}

fn escaped(text: &str, as_text: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if acts(c) { as_text(c) } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Controls of terminals, and of the direction of text (Unicode TR9 §2).
fn acts(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    turns || (c.is_control() && c != '\n' && c != '\t')
}

/// A time, and how far it is from now: `2027-02-24T03:51:06Z (in 89 days)`.
pub(super) fn when(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second() - now.as_second();
    let length = span(seconds.unsigned_abs());
    // Nobody reads nanoseconds.
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
    match seconds {
        0 => format!("{at} (now)"),
        1.. => format!("{at} (in {length})"),
        _ => format!("{at} ({length} ago)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::second;

    #[test]
    fn foreign_text_is_escaped_for_terminals_and_json_stays_valid() {
        let evil = "a\u{1b}[2J\u{202e}b\u{61c}\u{7f}\u{9b}é\n";
        assert_eq!(plain(evil), "a\\u{1b}[2J\\u{202e}b\\u{61c}\\u{7f}\\u{9b}é\n");
        let json = serde_json::to_string(evil).unwrap();
        let shown = plain_json(&json);
        assert!(!shown.contains(acts));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), evil);
    }

    #[test]
    fn lines_are_wrapped_at_the_terminal_width() {
        let text = wrapped(&"word ".repeat(60), 4);
        assert!(text.lines().all(|line| line.len() <= WIDTH && line.starts_with("    word")));
        assert_eq!(hanging("a:", "b c", 4), "a:  b c\n");
        let now = second(1_800_000_000);
        assert!(when(second(1_800_000_000 + 3 * 86_400), now).ends_with("(in 3 days)"));
        assert!(when(second(1_800_000_000 - 60), now).ends_with("(60 seconds ago)"));
        assert!(when(now, now).ends_with("(now)"));
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_shown_and_not_done() {
        assert_eq!(plain("a\tb\nüé"), "a\tb\nüé");
        assert_eq!(plain("\u{1b}]0;x\u{7}\r\u{9b}2J"), "\\u{1b}]0;x\\u{7}\\u{d}\\u{9b}2J");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
    }
}
