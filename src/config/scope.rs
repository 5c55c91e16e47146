//! The context of the functions that resolve sections: where paths begin, the time, and the errors.

use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::code::ConfigCode;
use super::error::ConfigError;
use super::spanned::Spanned;

/// The context of a section's function.
pub(super) struct ResolveScope<'a> {
    pub(super) base: &'a Path,
    pub(super) now: Timestamp,
    pub(super) errors: &'a mut Vec<ConfigError>,
}

impl ResolveScope<'_> {
    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.errors.push(ConfigError::at(span, message));
    }

    pub(super) fn hinted(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.coded(ConfigCode::Value, span, message, hint);
    }

    /// Reports that two settings contradict each other, or that one requires another.
    pub(super) fn conflict(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.coded(ConfigCode::Conflict, span, message, hint);
    }

    /// Reports a missing file.
    pub(super) fn no_file(&mut self, span: Range<usize>, path: &Path) {
        let message = format!("there is no file {}", path.display());
        self.errors.push(ConfigError::at(span, message).code(ConfigCode::File));
    }

    /// Reports a secret that others could read.
    pub(super) fn exposed(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.coded(ConfigCode::Exposed, span, message, hint);
    }

    pub(super) fn coded(
        &mut self,
        code: ConfigCode,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.errors.push(ConfigError::at(span, message).code(code).hint(hint));
    }

    /// A path, relative to the configuration file's folder.
    pub(super) fn path(&self, typed: &str) -> PathBuf {
        self.base.join(typed)
    }

    /// The value of a required key.
    pub(super) fn required<T>(
        &mut self,
        value: Option<Spanned<T>>,
        section: Range<usize>,
        what: &str,
        hint: &str,
    ) -> Option<Spanned<T>> {
        // A key that was only misspelled, or has a value of another type, is not missing too.
        let told = |e: &ConfigError| {
            let hint = e.hint.as_deref().unwrap_or_default();
            what.split(' ').any(|word| {
                hint == format!("did you mean '{word}'?")
                    || e.message.strip_prefix(word).is_some_and(|rest| rest.starts_with(": "))
            }) && e.span.as_ref().is_some_and(|at| at.start >= section.start)
        };
        if value.is_none() && !self.errors.iter().any(told) {
            self.coded(ConfigCode::Missing, section, format!("{what} is missing"), hint);
        }
        value
    }
}
