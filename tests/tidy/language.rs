//! Rules for names and prose: short test names, one type for each name, plain words.

use std::collections::BTreeMap;

use crate::source::{Source, files, product, read, untested};

const TEST_NAME_MAX: usize = 60;

/// Type names that a trait or an idiom prescribes: clap's arguments, associated types.
const PRESCRIBED: &[&str] = &["Args", "Command", "Error", "Fault", "Value", "Writer"];

/// Words in a row that a reader cannot search for.
const AVOIDED: &[&str] = &[
    "whoever",
    "whomever",
    "whatever",
    "nobody",
    "somebody",
    "anybody",
    "is told",
    "are told",
    "was told",
    "were told",
    "be told",
    "what becomes of",
    "what comes of",
    "in clear",
    "amiss",
    "mend",
    "mends",
    "no good",
];

/// Avoided words per thousand words of comments, strings or documents.
const AVOIDED_MAX: f64 = 1.0;

fn rust_files() -> Vec<String> {
    ["src", "lab", "tests", "benches"].iter().flat_map(|folder| files(folder, &["rs"])).collect()
}

/// The names of functions that stand below an attribute of a test.
fn tests_in(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        let line = line.trim_start_matches("async ");
        if let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next())
        {
            if is_test {
                names.push(name);
            }
            is_test = false;
        } else if ["#[test]", "#[tokio::test", "#[rstest"].iter().any(|a| line.starts_with(a)) {
            is_test = true;
        }
    }
    names
}

#[test]
fn a_test_has_a_short_name() {
    let mut long = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        let names = tests_in(&text).into_iter().filter(|name| name.len() > TEST_NAME_MAX);
        long.extend(names.map(|name| format!("{path}: {name}: {} characters", name.len())));
    }
    assert!(long.is_empty(), "at most {TEST_NAME_MAX}, one claim each:\n{}", long.join("\n"));
}

/// The types that a file defines, by name.
fn types_in(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    // An indented `type` belongs to a trait.
    let lines = code.lines().filter(|line| !line.starts_with(" ") || !line.contains(" type "));
    for line in lines.map(str::trim_start) {
        let line = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => {
                rest.split_once(") ").map_or("", |(_, rest)| rest)
            }
            Some(rest) => rest.trim_start(),
            None => line,
        };
        for kind in ["struct ", "enum ", "trait ", "type "] {
            let name = line.strip_prefix(kind).map(|rest| {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                rest.split_at(end.unwrap_or(rest.len())).0
            });
            // A macro's variable is no name.
            names.extend(name.filter(|name| !name.is_empty()));
        }
    }
    names
}

#[test]
fn one_name_is_one_type() {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in untested() {
        for name in types_in(&source.code) {
            by_name.entry(name.to_owned()).or_default().push(source.name());
        }
    }
    by_name.retain(|name, paths| paths.len() > 1 && !PRESCRIBED.contains(&&**name));
    assert!(by_name.is_empty(), "name each for what it is: {by_name:#?}");
}

/// Avoided words and all words of a text.
fn words(text: &str) -> (usize, usize) {
    let text = text.to_lowercase();
    let all: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '\'').collect();
    let all: Vec<&str> = all.into_iter().filter(|word| !word.is_empty()).collect();
    let avoided = AVOIDED.iter().map(|phrase| {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        all.windows(phrase.len()).filter(|window| **window == *phrase).count()
    });
    (avoided.sum(), all.len())
}

fn per_thousand(texts: impl Iterator<Item = String>) -> f64 {
    let (avoided, all) =
        texts.map(|text| words(&text)).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    assert!(all > 1000, "{all} words");
    1000.0 * avoided as f64 / all as f64
}

#[test]
fn comments_use_plain_words() {
    let comments = rust_files().into_iter().filter(|path| !path.ends_with("tidy/language.rs"));
    let found = per_thousand(comments.map(|path| {
        let text = read(&path);
        let comments = text.lines().filter_map(|line| line.trim_start().strip_prefix("//"));
        comments.collect::<Vec<_>>().join("\n")
    }));
    assert!(found < AVOIDED_MAX, "{found:.2} avoided words per thousand; see CONTRIBUTING.md");
}

/// Log lines, messages and hints: what administrators read and search for.
#[test]
fn messages_use_plain_words() {
    let found = per_thousand(product().into_iter().map(|source| source.strings));
    assert!(found < AVOIDED_MAX, "{found:.2} avoided words per thousand; see CONTRIBUTING.md");
}

#[test]
fn documents_use_plain_words() {
    let top = ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"].map(str::to_owned);
    let documents = files("docs", &["md"]).into_iter().chain(top);
    let found = per_thousand(documents.map(|path| read(&path)));
    assert!(found < AVOIDED_MAX, "{found:.2} avoided words per thousand; see CONTRIBUTING.md");
}

#[test]
fn avoided_words_are_counted() {
    assert_eq!(words("Whoever asks is told; nobody's told."), (2, 6));
    assert_eq!(
        tests_in("#[test]\nfn a() {}\nfn b() {}\n#[rstest]\n#[case(1)]\nfn c<T>() {}"),
        ["a", "c"]
    );
    let code =
        "let a = \"nobody\"; // nobody\nlet b = r#\"one\"#;\n#[cfg(test)]\nmod tests {\"nobody\"}";
    assert_eq!(Source::new("a.rs", code).strings, "\"nobody\"\nr#\"one\"#\n");
    assert_eq!(types_in("pub(super) struct A<'a> {\nenum B;\nlet type_c = 1;"), ["A", "B"]);
}
