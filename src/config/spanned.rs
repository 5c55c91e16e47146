//! A value and the place in the file where it was typed.
//!
//! Ours and not toml's own, so that the schema sees through it to the value.

use std::ops::Range;

use serde::Deserialize;

/// A value with the bytes of the file that it stands in.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Spanned<T>(toml::Spanned<T>);

impl<T> Spanned<T> {
    /// The bytes of the file that it stands in.
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
