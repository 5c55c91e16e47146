//! Configuration errors for the operator: the fault, its place with a caret, and how to fix it.
//! Collects all errors, not only the first.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::code::ConfigCode;

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Its kind.
    pub code: ConfigCode,
    /// The fault, as a clause.
    pub message: String,
    /// Its place in the file, in bytes.
    pub span: Option<Range<usize>>,
    /// How to fix it.
    pub hint: Option<String>,
    /// Whether it is only a warning: the configuration can be used.
    pub warning: bool,
}

impl ConfigError {
    /// An error about a place in the file.
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        let (code, message) = (ConfigCode::Value, message.into());
        ConfigError { code, message, span: Some(span), hint: None, warning: false }
    }

    /// An error about the whole file.
    pub fn whole(message: impl Into<String>) -> Self {
        let (code, message) = (ConfigCode::Value, message.into());
        ConfigError { code, message, span: None, hint: None, warning: false }
    }

    /// The same, with another code than `ConfigCode::Value`.
    pub fn code(mut self, code: ConfigCode) -> Self {
        self.code = code;
        self
    }

    /// The same, with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, as a warning.
    pub fn warning(mut self) -> Self {
        self.warning = true;
        self
    }
}

/// All errors of one file.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    /// The file, as it was named.
    pub path: String,
    /// Its text, for the carets.
    pub text: String,
    /// The errors, in the order of the file.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// The line and column, both from 1, of an error.
    pub fn place(&self, error: &ConfigError) -> Option<(usize, usize)> {
        let start = error.span.as_ref()?.start.min(self.text.len());
        let before = self.text.get(..start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Some((line, column))
    }

    /// The report for a person, in colour or plain.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let reports: Vec<String> =
            self.errors.iter().map(|error| renderer.render(&self.report(error))).collect();
        reports.join("\n\n")
    }

    fn report<'a>(&'a self, error: &'a ConfigError) -> Vec<Group<'a>> {
        let level = if error.warning { Level::WARNING } else { Level::ERROR };
        let title = level.primary_title(error.message.as_str()).id(error.code.as_str());
        let mut group = match &error.span {
            Some(span) => {
                let end = self.text.len();
                let span = span.start.min(end)..span.end.clamp(span.start.min(end), end);
                let snippet = Snippet::source(self.text.as_str())
                    .path(self.path.as_str())
                    .annotation(AnnotationKind::Primary.span(span));
                Group::with_title(title).element(snippet)
            }
            None => Group::with_title(title)
                .element(annotate_snippets::Origin::path(self.path.as_str())),
        };
        if let Some(hint) = &error.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        vec![group]
    }
}

/// One line for each error, for logs:
/// `gateway.toml:12:9: unknown key 'hots'; did you mean 'hosts'? [config.unknown_key]`
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            match self.place(error) {
                Some((line, column)) => write!(f, "{}:{line}:{column}: ", self.path)?,
                None => write!(f, "{}: ", self.path)?,
            }
            f.write_str(&error.message)?;
            if let Some(hint) = &error.hint {
                write!(f, "; {hint}")?;
            }
            write!(f, " [{}]", error.code.as_str())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
