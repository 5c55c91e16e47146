//! One reason why a certificate may not be served, with details.
//!
//! The reason is from the closed list; the detail is for people and never contains a key.

use crate::unfit::Unfit;

/// A reason from the closed list, and the details that an operator needs to find its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFault {
    /// The reason: metric label, log code and documentation heading.
    pub unfit: Unfit,
    /// The details: a path, a date, a name. May be empty.
    pub detail: String,
}

impl CredentialFault {
    /// A reason with its details.
    pub fn new(unfit: Unfit, detail: impl Into<String>) -> Self {
        CredentialFault { unfit, detail: detail.into() }
    }
}

impl From<Unfit> for CredentialFault {
    fn from(unfit: Unfit) -> Self {
        CredentialFault { unfit, detail: String::new() }
    }
}

impl std::fmt::Display for CredentialFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.detail.as_str() {
            "" => self.unfit.fmt(f),
            detail => write!(f, "{}: {detail}", self.unfit),
        }
    }
}

impl std::error::Error for CredentialFault {}
