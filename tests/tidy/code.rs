//! Rules for every source file.

use crate::source::{Source, files, product, read, sources, untested};

const CHARTER_LINES_MAX: usize = 5;
const CODE_LINES_MAX: usize = 400;

/// Files with a longer opening comment, with the reason.
const LONG_CHARTER: &[(&str, &str)] =
    &[("src/lib.rs", "it is the documentation of the crate, with its three data paths")];

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn fault_of_charter(source: &Source) -> Option<String> {
    let lines = source.text.lines().take_while(|line| line.starts_with("//!")).count();
    let at = source.at(1);
    if lines == 0 {
        return Some(format!("{at}: say in //! what the file owns and what it must never do"));
    }
    let may = LONG_CHARTER.iter().any(|(long, _)| *long == source.name());
    (lines > CHARTER_LINES_MAX && !may)
        .then(|| format!("{at}: the charter has {lines} lines; {CHARTER_LINES_MAX} are enough"))
}

fn faults_of_leftovers(path: &str, text: &str) -> Vec<String> {
    // Split in two, so that this file does not match.
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
    // Inline tests stand at the end.
    let tests = source.text.lines().position(|line| line.starts_with("#[cfg(test)]"));
    let lines = tests.map_or(lines, |tests| tests.min(lines));
    let (name, max) = (source.name(), CODE_LINES_MAX);
    (lines > max).then(|| format!("{name}: {lines} lines without its tests; split it at {max}"))
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

/// Tuples as parameters beside others, which hide how many there are. A tuple that is the only one
/// is a value as another function returns it.
fn faults_of_parameters(source: &Source) -> Vec<String> {
    let name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let is_pattern = |text: &str| text.contains(", ") && text.split(", ").all(name);
    let mut faults = Vec::new();
    for (n, line) in source.code.lines().enumerate() {
        let tuple = line.split_once("): (").is_some_and(|(before, _)| {
            before.rsplit_once('(').is_some_and(|(_, pattern)| is_pattern(pattern))
        });
        let alone = line.contains("fn ") && line.matches("): (").count() == 1 && {
            let rest = line.replace("&self, ", "");
            rest.contains("((") && rest.contains("))")
        };
        let binds = line.contains("let ") || line.contains('|');
        if tuple && !binds && !alone {
            let at = source.at(n + 1);
            faults.push(format!("{at}: a parameter for each value, or a struct for all"));
        }
    }
    faults
}

/// The most fields of a struct. Beyond that, parts have names of their own.
const FIELDS_MAX: usize = 14;

/// Structs with more fields, with the reason.
const WIDE: &[(&str, &str)] = &[
    ("SiteSystemFile", "the keys of [[site_system]]"),
    ("TokenIssuerFile", "the keys of [[token_issuer]]"),
    ("SiteSystem", "the settings of [[site_system]]"),
    ("SiteSystemStatus", "one object of the status document"),
    ("Access", "the fields of the access log"),
    ("Facts", "the facts of a certificate"),
    ("TokenEnvelope", "the claims of a token"),
    ("Registration", "what a client registers with, read in one function"),
    ("Route", "the settings of a route"),
    ("Metrics", "parts with names of their own"),
    ("App", "parts with names of their own"),
];

/// Returns the structs of a file with their numbers of fields.
fn structs(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut lines = source.code.lines();
    while let Some(line) = lines.next() {
        let Some((_, rest)) = line.split_once("struct ") else { continue };
        if line.starts_with(' ') || !line.ends_with('{') {
            continue;
        }
        let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let body = lines.by_ref().take_while(|line| *line != "}");
        let field = |line: &&str| {
            let line = line.trim_end();
            line.starts_with("    ") && !line.starts_with("     ") && line.contains(": ")
        };
        found.push((name.to_owned(), body.filter(field).count()));
    }
    found
}

fn faults_of_width(source: &Source) -> Vec<String> {
    let is_allowed = |name: &str| WIDE.iter().any(|(wide, _)| *wide == name);
    let wide = structs(source).into_iter().filter(|(name, n)| *n > FIELDS_MAX && !is_allowed(name));
    wide.map(|(name, n)| {
        format!("{}: {name} has {n} fields; name its parts, at most {FIELDS_MAX}", source.name())
    })
    .collect()
}

#[test]
fn wide_structs_have_named_parts() {
    report(product().iter().flat_map(faults_of_width).collect());
    let all: Vec<_> = product().iter().flat_map(structs).collect();
    let is_wide = |name: &str| all.iter().any(|(known, n)| known == name && *n > FIELDS_MAX);
    let narrow = WIDE.iter().filter(|(name, _)| !is_wide(name)).map(|(name, _)| *name);
    assert_eq!(narrow.collect::<Vec<_>>(), [""; 0], "no longer wide: remove them from WIDE");
}

#[test]
fn no_parameter_is_a_tuple_beside_others() {
    report(product().iter().flat_map(faults_of_parameters).collect());
}

#[test]
fn every_file_opens_with_a_charter_of_a_few_lines() {
    report(sources().iter().filter_map(fault_of_charter).collect());
}

#[test]
fn nothing_is_left_undone_in_the_code() {
    let all = ["src", "lab", "tests", "benches"].iter().flat_map(|folder| files(folder, &["rs"]));
    report(all.flat_map(|path| faults_of_leftovers(&path, &read(&path))).collect());
}

#[test]
fn no_file_is_too_long_to_read_at_one_sitting() {
    report(untested().iter().filter_map(fault_of_length).collect());
}

#[test]
fn nothing_panics_without_saying_why_it_cannot() {
    report(untested().iter().flat_map(faults_of_panics).collect());
}

#[test]
fn unsafe_code_is_forbidden() {
    let manifest = |path: &str| toml::from_str::<toml::Table>(&read(path)).unwrap();
    let root = manifest("Cargo.toml");
    let lints = root.get("workspace").and_then(|w| w.get("lints")).and_then(|l| l.get("rust"));
    assert_eq!(
        lints.and_then(|rust| rust.get("unsafe_code")).and_then(|lint| lint.as_str()),
        Some("forbid"),
        "Cargo.toml [workspace.lints.rust] must say unsafe_code = \"forbid\""
    );
    for path in ["Cargo.toml", "lab/Cargo.toml", "lab/forge/Cargo.toml"] {
        let manifest = manifest(path);
        let shared = manifest.get("lints").and_then(|l| l.get("workspace"));
        assert_eq!(
            shared.and_then(|shared| shared.as_bool()),
            Some(true),
            "{path} [lints] must say workspace = true"
        );
    }
    let bare = sources().into_iter().filter(|source| {
        source.text.contains("allow(unsafe_code)") || source.text.contains("expect(unsafe_code)")
    });
    assert_eq!(bare.map(|source| source.name()).collect::<Vec<_>>(), [""; 0]);
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
    let wide = format!("struct A {{\n{}}}\n", "    /// b\n    pub b: u8,\n".repeat(15));
    assert_eq!(faults_of_width(&Source::new("a.rs", &wide)).len(), 1);
    assert_eq!(structs(&Source::new("a.rs", &wide)), [("A".to_owned(), 15)]);
    let hidden = "fn a(b: u8, (c, d): (u8, u8)) {}\nfn a(\n    (c, d): (u8, u8),\n) {}";
    assert_eq!(faults_of_parameters(&Source::new("a.rs", hidden)).len(), 2);
    let plain =
        "fn a(&self, (c, d): (u8, u8)) {}\nlet (a, b): (u8, u8) = c;\nfn a(b: u8, c: u8) {}";
    assert_eq!(faults_of_parameters(&Source::new("a.rs", plain)), [""; 0]);
}
