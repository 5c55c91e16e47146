//! The source as the other tests read it: without comments, strings and tests, and with all paths
//! spelled out.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

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
    /// The same lines with comments, literals and tests blanked.
    pub code: String,
    /// Its string literals, a line each, without those of its tests.
    pub strings: String,
    /// Every path in the code.
    pub uses: Vec<Use>,
}

/// A path in the code, with groups spelled out and `crate` or the outside crate in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The line, from 1.
    pub line: usize,
    /// The segments.
    pub segments: Vec<String>,
    /// The name that a `use` item gives it for others (`pub use`).
    pub exported_as: Option<String>,
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
        let tokens = without_tests(tokens(text));
        let code = blank(text, &tokens);
        let strings = strings(&tokens);
        let module = module_of(path);
        let mut reader = PathReader { tokens: &tokens, at: 0, exports: false, found: Vec::new() };
        let mut uses = reader.all();
        for found in &mut uses {
            found.segments = absolute(&module, std::mem::take(&mut found.segments));
        }
        let (path, text) = (path.to_owned(), text.to_owned());
        Source { folder: PRODUCT, path, text, code, strings, uses }
    }

    /// Returns its path from the repository's root on.
    pub fn name(&self) -> String {
        format!("{}/{}", self.folder, self.path)
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

    /// Returns the segments of its module, from the crate on.
    pub fn module(&self) -> Vec<String> {
        module_of(&self.path)
    }

    /// Returns `src/path:line`, as a clickable link.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.name())
    }
}

fn module_of(path: &str) -> Vec<String> {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        module.pop();
    }
    module
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

/// A token, or a delimiter of a group.
struct Token<'a> {
    text: &'a str,
    at: Range<usize>,
    line: usize,
    kind: TokenKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Word,
    Literal,
    Mark,
}

/// Returns the tokens of a file in its order. Comments are none.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let stream: TokenStream = text.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let mut found = Vec::new();
    flatten(text, stream, &mut found);
    // The tokens of a documentation comment all have its place.
    found.retain(|token| !token.text.starts_with("//") && !token.text.starts_with("/*"));
    found
}

fn flatten<'a>(text: &'a str, stream: TokenStream, found: &mut Vec<Token<'a>>) {
    let push = |span: Span, kind: TokenKind, found: &mut Vec<Token<'a>>| {
        let at = span.byte_range();
        let text = text.get(at.clone()).unwrap_or_default();
        found.push(Token { text, at, line: span.start().line, kind });
    };
    for token in stream {
        match token {
            TokenTree::Ident(word) => push(word.span(), TokenKind::Word, found),
            TokenTree::Literal(literal) => push(literal.span(), TokenKind::Literal, found),
            TokenTree::Punct(mark) => push(mark.span(), TokenKind::Mark, found),
            TokenTree::Group(group) => {
                let is_seen = group.delimiter() != Delimiter::None;
                if is_seen {
                    push(group.span_open(), TokenKind::Mark, found);
                }
                flatten(text, group.stream(), found);
                if is_seen {
                    push(group.span_close(), TokenKind::Mark, found);
                }
            }
        }
    }
}

/// Removes every item behind `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter();
    while !rest.as_slice().is_empty() {
        let ahead = rest.as_slice();
        let is_marked = ahead.first().is_some_and(|token| token.text == "#")
            && ahead.iter().take(MARK.len()).map(|token| token.text).eq(MARK);
        if !is_marked {
            kept.extend(rest.next());
            continue;
        }
        let mut depth = 0_usize;
        for token in rest.by_ref().skip(MARK.len()) {
            match token.text {
                "{" | "[" | "(" => depth += 1,
                "}" | "]" | ")" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(token.text, "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// Returns the text with everything but these tokens blanked, and their literals too.
fn blank(text: &str, tokens: &[Token<'_>]) -> String {
    let mut code: Vec<u8> =
        text.bytes().map(|byte| if byte == b'\n' { b'\n' } else { b' ' }).collect();
    for token in tokens.iter().filter(|token| token.kind != TokenKind::Literal) {
        if let Some(place) = code.get_mut(token.at.clone()) {
            place.copy_from_slice(token.text.as_bytes());
        }
    }
    String::from_utf8(code).unwrap_or_default()
}

fn strings(tokens: &[Token<'_>]) -> String {
    let literals = tokens.iter().filter(|token| token.kind == TokenKind::Literal);
    let texts = literals.map(|token| token.text).filter(|text| text.starts_with(['"', 'r']));
    texts.flat_map(|text| [text, "\n"]).collect()
}

/// Finds the paths in tokens. A single word counts as a path only inside a group or after `use`.
struct PathReader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    /// Whether it reads an item that exports what it names.
    exports: bool,
    found: Vec<Use>,
}

impl PathReader<'_> {
    fn all(&mut self) -> Vec<Use> {
        while self.at < self.tokens.len() {
            let before = [self.before(2), self.before(1)];
            let continues = before == [":", ":"] || before[1] == "'";
            match self.word() {
                Some("use") => {
                    self.exports = matches!(before[1], "pub" | ")");
                    self.at += 1;
                    self.path(&[], true);
                    self.exports = false;
                }
                Some(_) if !continues => self.path(&[], false),
                _ => self.at += 1,
            }
        }
        std::mem::take(&mut self.found)
    }

    fn before(&self, steps: usize) -> &str {
        self.at.checked_sub(steps).map_or("", |at| self.text(at))
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn word(&self) -> Option<&str> {
        let token = self.tokens.get(self.at)?;
        (token.kind == TokenKind::Word).then_some(token.text)
    }

    /// Reads a path that begins here, behind `prefix`.
    fn path(&mut self, prefix: &[String], alone_counts: bool) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut segments = prefix.to_vec();
        loop {
            let text = self.text(self.at).to_owned();
            if text == "{" {
                return self.group(&segments);
            }
            if text != "*" && self.word().is_none() {
                break;
            }
            self.at += 1;
            if text != "self" || segments.is_empty() {
                segments.push(text);
            }
            let more = self.text(self.at + 2);
            let is_word = more.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            let goes_on = is_word || matches!(more, "{" | "*");
            if [self.text(self.at), self.text(self.at + 1)] != [":", ":"] || !goes_on {
                break;
            }
            self.at += 2;
        }
        let mut name = segments.last().cloned();
        if alone_counts && self.word() == Some("as") {
            name = Some(self.text(self.at + 1).to_owned());
            self.at += 2;
        }
        if segments.len() > 1 || alone_counts {
            let exported_as = name.filter(|_| self.exports);
            self.found.push(Use { line, segments, exported_as });
        }
    }

    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "}" => {
                    self.at += 1;
                    return;
                }
                "," => self.at += 1,
                _ => self.path(prefix, true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(path: &str, text: &str) -> Vec<String> {
        Source::new(path, text).uses.iter().map(|u| u.segments.join("::")).collect()
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
                    #[cfg(test)]\nmod tests { fn f() { k::l(); } }\nfn g<'a>(c: &'a str) { ':'; m::n(); }\n\
                    /// o::p\n#[q(r::s)]\nstruct T;";
        assert_eq!(spelled("a.rs", text), ["m::n", "r::s"]);
        assert_eq!(Source::new("a.rs", text).uses.first().map(|u| u.line), Some(5));
    }
}
