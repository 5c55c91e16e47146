//! Why a token is refused, for the client (the denial) and for the log (the detail).
//!
//! The detail holds only fixed text and sanitised names, never the token or its signature.

use std::borrow::Cow;
use std::sync::Arc;

use super::text::printable;
use crate::denial::Denial;

/// A refused token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The denial for the client.
    pub denial: Denial,
    /// The detail for the log: printable ASCII, bounded, without secrets. It may distinguish cases
    /// that the client must not be able to distinguish.
    pub detail: Cow<'static, str>,
    /// The key that the token names (`kid`, else `x5t`), sanitised for logs.
    pub kid: Option<String>,
    /// The missing key, if newer keys of the issuer could change the result.
    pub missed: Option<Missed>,
}

/// A key that an issuer did not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The configured name of the issuer.
    pub issuer: Arc<str>,
    /// The generation of the issuer's key set at the lookup.
    pub generation: u64,
}

impl Refusal {
    /// A refusal with a fixed detail.
    pub const fn new(denial: Denial, detail: &'static str) -> Self {
        Refusal { denial, detail: Cow::Borrowed(detail), kid: None, missed: None }
    }

    /// A refusal that quotes a value from the client, sanitised.
    pub(super) fn quoting(denial: Denial, detail: &str, quoted: &str) -> Self {
        let detail = Cow::Owned(format!("{detail} '{}'", printable(quoted)));
        Refusal { denial, detail, kid: None, missed: None }
    }

    /// The same refusal with the name of the key.
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
