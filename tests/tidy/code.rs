//! What every file of the source keeps to.

use crate::source::{Source, files, product, read, sources};

const CHARTER_LINES_MAX: usize = 5;
const CODE_LINES_MAX: usize = 400;

/// Files that may be longer, and why.
const LONG: &[(&str, usize, &str)] =
    &[("metrics.rs", 600, "one list of all metrics, which would not be one list in two files")];

/// Files whose opening comment may be longer, and why.
const LONG_CHARTER: &[(&str, &str)] =
    &[("lib.rs", "it is the documentation of the crate and tells the three roads")];

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn fault_of_charter(source: &Source) -> Option<String> {
    let lines = source.text.lines().take_while(|line| line.starts_with("//!")).count();
    let path = &source.path;
    if lines == 0 {
        return Some(format!(
            "src/{path}:1: say in //! what the file owns and what it must never do"
        ));
    }
    let may = LONG_CHARTER.iter().any(|(long, _)| long == path);
    (lines > CHARTER_LINES_MAX && !may).then(|| {
        format!("src/{path}:1: the charter has {lines} lines; {CHARTER_LINES_MAX} are enough")
    })
}

fn faults_of_leftovers(path: &str, text: &str) -> Vec<String> {
    // In two halves, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("db", "g!("),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
    ];
    let mut faults = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for word in words.iter().filter(|word| line.contains(**word)) {
            faults.push(format!("{path}:{}: '{word}': do it now, or write an issue", n + 1));
        }
    }
    faults
}

fn fault_of_length(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    // Inline tests stand at the end; what is blank in the code and not in the text is theirs.
    let tests = source.text.lines().position(|line| line.starts_with("#[cfg(test)]"));
    let lines = tests.map_or(lines, |tests| tests.min(lines));
    let max = LONG.iter().find(|(path, _, _)| *path == source.path).map_or(CODE_LINES_MAX, |l| l.1);
    (lines > max)
        .then(|| format!("src/{}: {lines} lines without its tests; split it at {max}", source.path))
}

fn faults_of_panics(source: &Source) -> Vec<String> {
    let words = [".unwrap()", ".expect(", "panic!(", "unreachable!(", ".unwrap_err()", "assert!("];
    let text: Vec<&str> = source.text.lines().collect();
    let mut faults = Vec::new();
    for (n, line) in source.code.lines().enumerate() {
        let Some(word) = words.iter().find(|word| {
            line.match_indices(**word).any(|(at, _)| {
                let before = line.get(..at).and_then(|b| b.chars().last());
                word.starts_with('.') || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        }) else {
            continue;
        };
        let said = |n: usize| text.get(n).is_some_and(|line| line.contains("// Invariant:"));
        if !said(n) && !n.checked_sub(1).is_some_and(said) {
            faults.push(format!(
                "{}: {word} without '// Invariant:'; return an error, or say what makes it impossible",
                source.at(n + 1)
            ));
        }
    }
    faults
}

#[test]
fn every_file_opens_with_a_charter_of_a_few_lines() {
    report(sources().iter().filter_map(fault_of_charter).collect());
}

#[test]
fn nothing_is_left_undone_in_the_code() {
    let all = ["src", "tests", "benches"].iter().flat_map(|folder| files(folder, &["rs"]));
    report(all.flat_map(|path| faults_of_leftovers(&path, &read(&path))).collect());
}

#[test]
fn no_file_is_too_long_to_read_at_one_sitting() {
    report(product().iter().filter_map(fault_of_length).collect());
}

#[test]
fn nothing_panics_without_saying_why_it_cannot() {
    report(product().iter().flat_map(faults_of_panics).collect());
}

#[test]
fn unsafe_code_is_forbidden() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let lint = manifest.get("lints").and_then(|l| l.get("rust")).and_then(|r| r.get("unsafe_code"));
    let by_crate = read("src/lib.rs").contains("#![forbid(unsafe_code)]");
    assert!(
        by_crate || lint.and_then(|l| l.as_str()) == Some("forbid"),
        "Cargo.toml [lints.rust] must say unsafe_code = \"forbid\""
    );
    let bare = files("src", &["rs"]).into_iter().filter(|path| {
        let text = read(path);
        text.contains("allow(unsafe_code)") || text.contains("expect(unsafe_code)")
    });
    assert_eq!(bare.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn every_lint_that_is_switched_off_in_the_source_says_why() {
    let mut faults = Vec::new();
    for source in sources() {
        for mark in ["#[allow(", "#[expect(", "#![allow(", "#![expect("] {
            for (at, _) in source.code.match_indices(mark) {
                let rest = source.code.get(at..).unwrap_or_default();
                let attribute = rest.split(']').next().unwrap_or(rest);
                let line = source.code.get(..at).unwrap_or_default().lines().count();
                if !attribute.contains("reason") {
                    faults.push(format!("{}: {mark}…)] without a reason", source.at(line.max(1))));
                }
            }
        }
    }
    report(faults);
}

#[test]
fn the_checks_of_files_find_what_they_are_for() {
    assert!(fault_of_charter(&Source::new("a.rs", "use b;")).is_some());
    assert!(fault_of_charter(&Source::new("a.rs", &"//! a\n".repeat(6))).is_some());
    assert!(fault_of_charter(&Source::new("a.rs", "//! a\n\nuse b;")).is_none());
    assert_eq!(faults_of_leftovers("a.rs", concat!("// TO", "DO\ndb", "g!(x);")).len(), 2);
    assert!(fault_of_length(&Source::new("a.rs", &"x\n".repeat(401))).is_some());
    let tested =
        format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(400), "y\n".repeat(50));
    assert!(fault_of_length(&Source::new("a.rs", &tested)).is_none());
    assert_eq!(faults_of_panics(&Source::new("a.rs", "x.unwrap();\ny.expect(\"z\");")).len(), 2);
    let said = "// Invariant: never empty.\nx.unwrap();\n#[expect(dead_code)]\ndebug_assert!(y);";
    assert_eq!(faults_of_panics(&Source::new("a.rs", said)), [""; 0]);
}
