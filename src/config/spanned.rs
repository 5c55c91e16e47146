//! A value and its place in the file.
//!
//! Our own type and not toml's, so that the schema sees through it to the value.

use std::ops::Range;

use serde::Deserialize;

/// A value with its byte range in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Spanned<T>(toml::Spanned<T>);

impl<T> Spanned<T> {
    /// Its byte range in the file.
    pub(super) fn span(&self) -> Range<usize> {
        self.0.span()
    }

    /// The value.
    pub(super) fn get_ref(&self) -> &T {
        self.0.get_ref()
    }

    /// The value without its place.
    pub(super) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}
