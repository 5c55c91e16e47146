//! The source as the other tests read it: without comments, strings and tests, and with all paths
//! spelled out. A scanner for code formatted by rustfmt, not a Rust parser.

use std::fs;
use std::path::{Path, PathBuf};

/// The source folder of the shipped crate.
const PRODUCT: &str = "src";

/// The source folders of the crates that are not shipped.
const UNSHIPPED: &[&str] = &["lab/src", "lab/forge/src"];

/// One file of a crate.
pub struct Source {
    /// The source folder of its crate.
    pub folder: &'static str,
    /// Its path, from that folder on.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// The same lines with comments, strings and test modules blanked.
    pub code: String,
}

/// A path in the code, with groups spelled out and `crate` or the outside crate in front.
#[derive(Debug, PartialEq, Eq)]
pub struct Use {
    /// The line, from 1.
    pub line: usize,
    /// The segments.
    pub segments: Vec<String>,
}

/// Returns the repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the repository.
pub fn read(path: &str) -> String {
    let at = root().join(path);
    fs::read_to_string(&at).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files below a folder with one of these extensions, relative to the repository's
/// root, sorted.
pub fn files(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join(folder), extensions, &mut found);
    let root = root();
    let mut names: Vec<String> = found
        .iter()
        .map(|path| path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn collect(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, extensions, found);
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
}

/// Returns every file of the shipped crate that is not entirely a test.
pub fn product() -> Vec<Source> {
    let all = sources_in(PRODUCT);
    assert!(all.len() > 50, "only {} files in src: is this the repository?", all.len());
    all.into_iter().filter(|source| !source.is_test()).collect()
}

/// Returns the same of the crates that are not shipped.
pub fn unshipped() -> Vec<Source> {
    let all: Vec<Source> = UNSHIPPED.iter().flat_map(|folder| sources_in(folder)).collect();
    assert!(all.len() > 20, "only {} files in {UNSHIPPED:?}", all.len());
    all.into_iter().filter(|source| !source.is_test()).collect()
}

/// Returns the same of all crates.
pub fn untested() -> Vec<Source> {
    product().into_iter().chain(unshipped()).collect()
}

/// Returns every file of all crates, including tests.
pub fn sources() -> Vec<Source> {
    std::iter::once(&PRODUCT).chain(UNSHIPPED).flat_map(|folder| sources_in(folder)).collect()
}

fn sources_in(folder: &'static str) -> Vec<Source> {
    let read = |path: &String| {
        let within = path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/');
        Source { folder, ..Source::new(within, &read(path)) }
    };
    files(folder, &["rs"]).iter().map(read).collect()
}

impl Source {
    /// A file of the shipped crate.
    pub fn new(path: &str, text: &str) -> Self {
        let code = without_tests(&blank(text).0);
        Source { folder: PRODUCT, path: path.to_owned(), text: text.to_owned(), code }
    }

    /// Returns its path from the repository's root on.
    pub fn name(&self) -> String {
        format!("{}/{}", self.folder, self.path)
    }

    /// Returns its string literals, a line each, without those of its test module.
    pub fn strings(&self) -> String {
        let tested = self.text.find("\n#[cfg(test)]\nmod tests");
        blank(self.text.get(..tested.unwrap_or(self.text.len())).unwrap_or_default()).1
    }

    /// Checks whether the whole file is a test.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// Checks whether it is one of these files, or lies below one of these folders (with a trailing
    /// slash).
    pub fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            if place.ends_with('/') { self.path.starts_with(place) } else { self.path == *place }
        })
    }

    /// Returns its top-level module.
    pub fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or(&self.path);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Returns every path in the code.
    pub fn uses(&self) -> Vec<Use> {
        let module = self.module();
        let mut uses = paths(&self.code);
        for found in &mut uses {
            found.segments = absolute(&module, std::mem::take(&mut found.segments));
        }
        uses
    }

    fn module(&self) -> Vec<String> {
        let stem = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
            module.pop();
        }
        module
    }

    /// Returns `src/path:line`, as a clickable link.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.name())
    }
}

/// Resolves a path that begins with `self` or `super`, from the crate on.
fn absolute(module: &[String], segments: Vec<String>) -> Vec<String> {
    let steps = segments.iter().take_while(|s| *s == "self" || *s == "super").count();
    if steps == 0 {
        return segments;
    }
    let up = segments.iter().take(steps).filter(|s| *s == "super").count();
    let base = module.iter().take(module.len().saturating_sub(up)).cloned();
    std::iter::once("crate".to_owned())
        .chain(base)
        .chain(segments.into_iter().skip(steps))
        .collect()
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns every path in blanked code, with groups spelled out. A single word counts as a path only
/// inside a group or after `use`.
fn paths(code: &str) -> Vec<Use> {
    let chars: Vec<char> = code.chars().collect();
    let mut reader = Reader { chars: &chars, at: 0, line: 1, found: Vec::new() };
    while let Some(c) = reader.peek(0) {
        let before = reader.at.checked_sub(1).and_then(|at| chars.get(at)).copied();
        if is_ident(c) && !before.is_some_and(|b| is_ident(b) || b == ':' || b == '\'') {
            reader.path(&[], false);
        } else {
            reader.step();
        }
    }
    reader.found
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
    found: Vec<Use>,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self) {
        if self.peek(0) == Some('\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    fn skip_space(&mut self) {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.step();
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek(0).filter(|c| is_ident(*c) || *c == '*') {
            word.push(c);
            self.step();
        }
        word
    }

    fn path(&mut self, prefix: &[String], alone_counts: bool) {
        let line = self.line;
        let mut segments = prefix.to_vec();
        let mut word = self.word();
        if word == "use" {
            self.skip_space();
            self.path(&[], true);
            return;
        }
        if word.is_empty() {
            self.step();
            return;
        }
        loop {
            if word != "self" || segments.is_empty() {
                segments.push(word);
            }
            if (self.peek(0), self.peek(1)) != (Some(':'), Some(':')) {
                break;
            }
            match self.peek(2) {
                Some('{') => {
                    self.at += 3;
                    self.group(&segments);
                    return;
                }
                Some(c) if is_ident(c) || c == '*' => {
                    self.at += 2;
                    word = self.word();
                }
                _ => break,
            }
        }
        if segments.len() > 1 || alone_counts {
            self.found.push(Use { line, segments });
        }
    }

    fn group(&mut self, prefix: &[String]) {
        loop {
            self.skip_space();
            match self.peek(0) {
                None => return,
                Some('}') => return self.step(),
                Some(',') => self.step(),
                Some(_) => {
                    self.path(prefix, true);
                    self.skip_space();
                    if (self.peek(0), self.peek(1), self.peek(2))
                        == (Some('a'), Some('s'), Some(' '))
                    {
                        self.at += 3;
                        let _ = self.word();
                    }
                }
            }
        }
    }
}

/// Returns the same lines with comments, strings and characters blanked, and the string literals.
fn blank(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    let mut strings = String::new();
    let keep = |strings: &mut String, from: usize, to: usize| {
        strings.extend(chars.iter().take(to).skip(from));
        strings.push('\n');
    };
    let erase = |out: &mut String, from: usize, to: usize| {
        for c in chars.iter().take(to).skip(from) {
            out.push(if *c == '\n' { '\n' } else { ' ' });
        }
    };
    while at < chars.len() {
        let from = at;
        let starts_word = at == 0 || !is_ident(get(at - 1));
        match get(at) {
            '/' if get(at + 1) == '/' => {
                while at < chars.len() && get(at) != '\n' {
                    at += 1;
                }
                erase(&mut out, from, at);
            }
            '/' if get(at + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (get(at), get(at + 1)) {
                        ('/', '*') => (depth, at) = (depth + 1, at + 2),
                        ('*', '/') => (depth, at) = (depth - 1, at + 2),
                        _ => at += 1,
                    }
                    if depth == 0 || at >= chars.len() {
                        break;
                    }
                }
                erase(&mut out, from, at);
            }
            'r' if starts_word && raw_hashes(&chars, at + 1).is_some() => {
                at = end_of_raw(&chars, at + 1);
                keep(&mut strings, from, at);
                erase(&mut out, from, at);
            }
            'b' if starts_word && get(at + 1) == 'r' && raw_hashes(&chars, at + 2).is_some() => {
                at = end_of_raw(&chars, at + 2);
                erase(&mut out, from, at);
            }
            '"' => {
                at += 1;
                while at < chars.len() && get(at) != '"' {
                    at += if get(at) == '\\' { 2 } else { 1 };
                }
                at += 1;
                keep(&mut strings, from, at);
                erase(&mut out, from, at);
            }
            '\'' if get(at + 1) == '\\' || get(at + 2) == '\'' => {
                at += if get(at + 1) == '\\' { 3 } else { 2 };
                while at < chars.len() && get(at) != '\'' {
                    at += 1;
                }
                at += 1;
                erase(&mut out, from, at);
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
    (out, strings)
}

/// Returns the number of `#` before the quote of a raw string that begins here.
fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars.iter().skip(at).take_while(|c| **c == '#').count();
    (chars.get(at + hashes) == Some(&'"')).then_some(hashes)
}

fn end_of_raw(chars: &[char], at: usize) -> usize {
    let hashes = raw_hashes(chars, at).unwrap_or(0);
    let mut end = at + hashes + 1;
    while end < chars.len() {
        let closes = chars.get(end) == Some(&'"')
            && chars.iter().skip(end + 1).take_while(|c| **c == '#').count() >= hashes;
        end += 1;
        if closes {
            return end + hashes;
        }
    }
    end
}

/// Returns the same lines with every item behind `#[cfg(test)]` blanked.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut code = code.to_owned();
    while let Some(start) = code.find(MARK) {
        let rest = code.get(start..).unwrap_or_default();
        let (mut depth, mut end) = (0_usize, rest.len());
        for (at, c) in rest.char_indices().skip(MARK.len()) {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && (c == '}' || c == ';') {
                end = at + 1;
                break;
            }
        }
        let blanked: String =
            rest.chars().take(end).map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..start + end, &blanked);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(path: &str, text: &str) -> Vec<String> {
        Source::new(path, text).uses().iter().map(|u| u.segments.join("::")).collect()
    }

    #[test]
    fn groups_aliases_and_relative_paths_are_spelled_out() {
        assert_eq!(
            spelled("route/a.rs", "use crate::{cert::{Fault, self}, denial as d};\nuse notify;"),
            ["crate::cert::Fault", "crate::cert", "crate::denial", "notify"]
        );
        assert_eq!(spelled("route/a.rs", "use super::table::X;"), ["crate::route::table::X"]);
        assert_eq!(spelled("route/mod.rs", "use super::cert::X;"), ["crate::cert::X"]);
        assert_eq!(
            spelled("a.rs", "fn f() { std::fs::read(crate::b::C) }"),
            ["std::fs::read", "crate::b::C"]
        );
    }

    #[test]
    fn comments_strings_and_tests_are_not_code() {
        let text = "// a::b\n/* c::d */ let s = \"e::f \\\" g::h\"; let r = r#\"i::\"j\"#;\n\
                    #[cfg(test)]\nmod tests { fn f() { k::l(); } }\nfn g<'a>(c: &'a str) { ':'; m::n(); }";
        assert_eq!(spelled("a.rs", text), ["m::n"]);
        assert_eq!(Source::new("a.rs", text).uses().first().map(|u| u.line), Some(5));
    }
}
