//! Why a token is not accepted, for the client (the denial) and for the log (the detail).
//!
//! The detail holds fixed words and sanitised names alone, never the token or its signature.

use std::borrow::Cow;

use super::text::printable;
use crate::denial::Denial;

/// A token that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is told.
    pub denial: Denial,
    /// What the log is told besides: printable ASCII, bounded, without secrets. It may tell apart
    /// what the client must not be able to tell apart.
    pub detail: Cow<'static, str>,
    /// The key that the token names (`kid`, else `x5t`), sanitised for logs.
    pub kid: Option<String>,
}

impl Refusal {
    /// A refusal with a fixed detail.
    pub(super) const fn new(denial: Denial, detail: &'static str) -> Self {
        Refusal { denial, detail: Cow::Borrowed(detail), kid: None }
    }

    /// A refusal that quotes something the client sent, made harmless.
    pub(super) fn quoting(denial: Denial, detail: &str, quoted: &str) -> Self {
        let detail = Cow::Owned(format!("{detail} '{}'", printable(quoted)));
        Refusal { denial, detail, kid: None }
    }

    /// The same refusal with the name of the key beside it.
    pub fn naming(self, kid: Option<&str>) -> Self {
        Refusal { kid: kid.map(printable), ..self }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.denial.code(), self.detail)?;
        match &self.kid {
            Some(kid) => write!(f, " (key '{kid}')"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
