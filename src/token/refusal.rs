//! Why a token is not accepted, for the client (the denial) and for the log (the detail).
//!
//! The detail holds fixed words and sanitised names alone, never the token or its signature.

use std::borrow::Cow;
use std::sync::Arc;

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
    /// That its issuer has no such key, where newer keys of the issuer could change that.
    pub missed: Option<Missed>,
}

/// A key that an issuer did not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The configured name of the issuer.
    pub issuer: Arc<str>,
    /// How often the issuer's keys had been replaced when they were looked at.
    pub generation: u64,
}

impl Refusal {
    /// A refusal with a fixed detail.
    pub const fn new(denial: Denial, detail: &'static str) -> Self {
        Refusal { denial, detail: Cow::Borrowed(detail), kid: None, missed: None }
    }

    /// A refusal that quotes something the client sent, made harmless.
    pub(super) fn quoting(denial: Denial, detail: &str, quoted: &str) -> Self {
        let detail = Cow::Owned(format!("{detail} '{}'", printable(quoted)));
        Refusal { denial, detail, kid: None, missed: None }
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
