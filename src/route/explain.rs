//! Describes a route in words, for operators.
//!
//! Makes no decisions.

use std::fmt;

use super::table::{Route, TokenHandling};
use super::translate::Translation;

/// The widest line, in characters.
const WIDTH: usize = 80;
const INDENT: &str = "    ";

/// Formats lines of at most 80 characters, unless a word is longer than that: name and path, then
/// the requirement with the permitted token purposes, then methods, size and the handling of the
/// token, then the reason.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {}", self.name, self.pattern)?;
        let purposes: Vec<_> = self.purposes.iter().map(|purpose| purpose.as_str()).collect();
        let mut requirement = self.requirement.as_str().to_owned();
        if !purposes.is_empty() {
            requirement = format!("{requirement} ({})", purposes.join(", "));
        }
        paragraph(f, &requirement)?;
        let mut terms = self.methods.join(" ");
        terms.push_str(&match self.body_bytes {
            Some(0) => "; no body".to_owned(),
            Some(bytes) => format!("; body of at most {}", size(bytes)),
            None => "; body of any size".to_owned(),
        });
        if self.requirement.asks_for_a_token() {
            terms.push_str(match self.token {
                TokenHandling::Strip => "; token ends here",
                TokenHandling::Forward => "; token forwarded",
            });
        }
        if let Some(pair) = Translation::of(&self.pattern) {
            let pair = pair.namespace();
            terms.push_str(&format!("; with upstream = \"translate\" {pair}, token ends here"));
        }
        if let Some(time) = self.answer_time {
            terms.push_str(&format!("; waits {} minutes for a response", time.as_secs() / 60));
        }
        if let Some(turns) = self.requests_per_minute {
            terms.push_str(&format!("; {turns} requests a minute from one address"));
        }
        if self.websocket {
            terms.push_str("; WebSocket");
        }
        if let Some(queries) = &self.queries {
            terms.push_str(&format!("; queries {}", queries.open.join(" ")));
            terms.push_str(&format!(
                ", and for the networks of alt_auth {}",
                queries.media.join(" ")
            ));
        }
        paragraph(f, &terms)?;
        paragraph(f, &self.reason)
    }
}

/// Writes indented lines with these words.
fn paragraph(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut width = 0;
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if width > 0 && width + 1 + long > WIDTH {
            writeln!(f)?;
            width = 0;
        }
        let before = if width == 0 { INDENT } else { " " };
        write!(f, "{before}{word}")?;
        width += before.len() + long;
    }
    writeln!(f)
}

/// A size in the notation of the configuration.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}
