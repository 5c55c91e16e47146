//! The codes and what is said of them, out of the documents themselves: a row of a table is a code's
//! meaning, and docs/explain.md adds causes and commands.
//!
//! Reads what is compiled in; tests/tidy holds those documents to the code.

use serde::Serialize;

/// The documents with codes, in the order in which they are listed.
const PAGES: &[(&str, &str)] = &[
    ("docs/denials.md", include_str!("../../../docs/denials.md")),
    ("docs/certificates.md", include_str!("../../../docs/certificates.md")),
    ("docs/token-service.md", include_str!("../../../docs/token-service.md")),
    ("docs/site-server.md", include_str!("../../../docs/site-server.md")),
    ("docs/store.md", include_str!("../../../docs/store.md")),
    ("docs/rollover.md", include_str!("../../../docs/rollover.md")),
    ("docs/doctor.md", include_str!("../../../docs/doctor.md")),
    ("docs/configuration.md", include_str!("../../../docs/configuration.md")),
];
const CAUSES: &str = include_str!("../../../docs/explain.md");

/// The first columns of tables that explain codes.
const CODES: [&str; 3] = ["Code", "Reason", "Key"];

/// One meaning of a code.
#[derive(Clone, Debug, Serialize)]
pub struct PageEntry {
    /// The code, or a key of the configuration.
    pub code: String,
    /// The document that explains it, from the repository's root on.
    pub page: &'static str,
    /// The chapter of it.
    pub chapter: String,
    /// What its row says besides: the column, and what stands there.
    pub says: Vec<(String, String)>,
    /// What usually causes it, where that is known.
    pub causes: Option<String>,
    /// What to look at.
    pub look: Vec<String>,
}

/// Every code that is documented.
pub fn entries() -> Vec<PageEntry> {
    let causes = causes();
    let mut all = Vec::new();
    for (page, text) in PAGES {
        for row in rows(text) {
            let of_page = |cause: &&CauseText| cause.page == *page;
            let own = causes.iter().filter(of_page).find(|cause| cause.code == row.code);
            let chapter = causes.iter().filter(of_page);
            let look = own.or_else(|| chapter.clone().find(|cause| cause.code.is_empty()));
            all.push(PageEntry {
                look: look.map(|cause| cause.look.clone()).unwrap_or_default(),
                causes: own.map(|cause| cause.text.clone()),
                code: row.code,
                page,
                chapter: row.chapter,
                says: row.says,
            });
        }
    }
    all
}

/// A row of a table whose first cell is a code.
struct CodeRow {
    code: String,
    chapter: String,
    says: Vec<(String, String)>,
}

fn rows(text: &str) -> Vec<CodeRow> {
    let (mut found, mut chapter, mut head) = (Vec::new(), String::new(), Vec::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            chapter = plain(title.trim_start_matches('#').trim());
        }
        let Some(cells) = cells(line) else {
            // The line below a table's head is none of its rows.
            if !line.starts_with("|-") {
                head.clear();
            }
            continue;
        };
        let code = cells.first().and_then(|first| first.strip_prefix('`')?.strip_suffix('`'));
        match code {
            None if head.is_empty() => head = cells.iter().map(|cell| plain(cell)).collect(),
            Some(code) if head.first().is_some_and(|first| CODES.contains(&first.as_str())) => {
                let says = head.iter().zip(&cells).skip(1);
                let says = says.map(|(column, cell)| (column.clone(), plain(cell))).collect();
                found.push(CodeRow { code: code.to_owned(), chapter: chapter.clone(), says });
            }
            _ => {}
        }
    }
    found
}

/// What docs/explain.md says of a code, or of a whole page where it has no code.
struct CauseText {
    page: String,
    code: String,
    text: String,
    look: Vec<String>,
}

fn causes() -> Vec<CauseText> {
    let (mut found, mut page, mut fenced) = (Vec::new(), String::new(), false);
    let mut look: Vec<String> = Vec::new();
    for line in CAUSES.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            page = link(title).map(|name| format!("docs/{name}")).unwrap_or_default();
            look.clear();
        } else if line.starts_with("### ") {
            look.clear();
        } else if line.starts_with("```") {
            fenced = !fenced;
            if !fenced && !page.is_empty() {
                let (page, look) = (page.clone(), look.clone());
                found.push(CauseText { page, code: String::new(), text: String::new(), look });
            }
        } else if fenced {
            look.push(line.to_owned());
        } else if let Some(cells) = cells(line).filter(|_| !page.is_empty())
            && let [code, text] = cells.as_slice()
            && let Some(code) = code.strip_prefix('`').and_then(|code| code.strip_suffix('`'))
        {
            found.push(CauseText {
                page: page.clone(),
                code: code.to_owned(),
                text: plain(text),
                look: look.clone(),
            });
        }
    }
    found
}

/// Where the link of a title leads.
fn link(title: &str) -> Option<&str> {
    Some(title.split_once("](")?.1.split_once(')')?.0)
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
    Some(inner.split(" | ").map(str::trim).collect())
}

/// Markdown as a terminal shows it: no marks of code, and of a link its words.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        match after.split_once("](").and_then(|(words, to)| Some((words, to.split_once(')')?.1))) {
            Some((words, after)) if !words.contains([']', '[']) => {
                shown.push_str(before);
                shown.push_str(words);
                rest = after;
            }
            _ => {
                shown.push_str(before);
                shown.push('[');
                rest = after;
            }
        }
    }
    shown.push_str(rest);
    shown.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_loses_its_marks_and_keeps_its_words() {
        assert_eq!(plain("see [the guard](x.md#y): `\"off\"`"), "see the guard: \"off\"");
        assert_eq!(
            plain("Add a [[site_system.route]] for it"),
            "Add a [[site_system.route]] for it"
        );
        assert_eq!(plain("`[a]` and [b](c)"), "[a] and b");
    }

    #[test]
    fn every_entry_says_something_and_has_something_to_look_at() {
        let all = entries();
        assert!(all.len() > 200, "{}", all.len());
        for entry in all {
            assert!(!entry.says.is_empty() && !entry.look.is_empty(), "{entry:?}");
        }
    }
}
