//! Codes for people: in 80 columns, with what a client sees of them.

use std::fmt::Write;

use super::pages::PageEntry;
use crate::cli::wrap::wrapped;
use crate::denial::Denial;

/// Columns that are told as what the client sees, or as the way out.
const SEEN: [&str; 3] = ["Status", "Reason phrase", "error"];
const MEND: [&str; 2] = ["How to fix it", "What to do"];

/// One code, whole.
pub(super) fn one(entry: &PageEntry, denial: Option<Denial>) -> String {
    let mut out = format!("{}\n", entry.code);
    let rest = entry.says.iter().filter(|(column, _)| !told_apart(column));
    for (column, cell) in rest {
        match column.as_str() {
            "Default" | "Severity" => section(&mut out, column, cell),
            _ => out.push_str(&wrapped(cell, 2)),
        }
    }
    if let Some(seen) = seen(entry, denial) {
        section(&mut out, "What the client sees", &seen);
    }
    if let Some(causes) = &entry.causes {
        section(&mut out, "Usual causes", causes);
    }
    for (_, cell) in entry.says.iter().filter(|(column, _)| MEND.contains(&column.as_str())) {
        section(&mut out, "How to fix it", cell);
    }
    if !entry.look.is_empty() {
        out.push_str("  Where to look\n");
        for command in &entry.look {
            // Never broken: they are there to be copied.
            let _ = writeln!(out, "    {command}");
        }
    }
    let _ = writeln!(out, "  Documentation: {}, {}", entry.page, entry.chapter);
    out
}

fn told_apart(column: &str) -> bool {
    SEEN.contains(&column) || MEND.contains(&column)
}

fn section(out: &mut String, title: &str, text: &str) {
    let _ = writeln!(out, "  {title}");
    out.push_str(&wrapped(text, 4));
}

fn seen(entry: &PageEntry, denial: Option<Denial>) -> Option<String> {
    let cells = entry.says.iter().filter(|(column, _)| SEEN.contains(&column.as_str()));
    let words: Vec<&str> = cells.map(|(_, cell)| cell.as_str()).collect();
    if words.is_empty() {
        return None;
    }
    let mut seen = words.join(" ");
    if let Some(substatus) = denial.and_then(Denial::substatus) {
        let _ = write!(seen, "; IIS would log {}.{substatus}", words.first().unwrap_or(&""));
    }
    if let Some(challenge) = denial.and_then(Denial::challenge) {
        let _ = write!(seen, "; WWW-Authenticate: {challenge}");
    }
    Some(seen)
}

/// All of them: a line for each, below its page and chapter.
pub(super) fn list(all: &[PageEntry]) -> String {
    let mut out = String::new();
    let (mut page, mut chapter) = ("", "");
    for entry in all {
        if (entry.page, entry.chapter.as_str()) != (page, chapter) {
            (page, chapter) = (entry.page, entry.chapter.as_str());
            let blank = if out.is_empty() { "" } else { "\n" };
            let heading = format!("# {chapter} ({page})");
            let _ = writeln!(out, "{blank}{}", cut(&heading, 80));
        }
        let title = entry
            .says
            .iter()
            .find(|(column, _)| !told_apart(column) && column != "Default" && column != "Severity");
        let title = title.map(|(_, cell)| cell.as_str()).unwrap_or_default();
        let _ = writeln!(out, "{}", cut(&format!("  {:<32} {title}", entry.code), 80));
    }
    out.push_str("\n'sitegate explain CODE' has the details.\n");
    out
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() > width {
        format!("{}...", line.chars().take(width - 3).collect::<String>().trim_end())
    } else {
        line.to_owned()
    }
}

/// That there is no such code, and which ones may be meant.
pub(super) fn unknown(code: &str, all: &[PageEntry]) -> String {
    let near = |entry: &&PageEntry| {
        let distance = strsim::damerau_levenshtein(&entry.code, &code.to_ascii_lowercase());
        let same_end = entry.code.split_once('.').is_some_and(|(_, end)| end == code);
        same_end || distance <= 1 + entry.code.len() / 4
    };
    let mut known: Vec<&str> = all.iter().filter(near).map(|e| e.code.as_str()).collect();
    known.sort_by_key(|known| strsim::damerau_levenshtein(known, code));
    known.dedup();
    known.truncate(3);
    match known.as_slice() {
        [] => format!("sitegate: there is no code '{code}'; 'sitegate explain' lists all of them"),
        near => format!("sitegate: there is no code '{code}'; did you mean {}?", near.join(" or ")),
    }
}
