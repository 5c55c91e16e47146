//! One reason why a certificate may not be served, with what was seen.
//!
//! The reason is from the closed list; the detail is for people and never holds a key.

use crate::unfit::Unfit;

/// A reason from the closed list, and the particulars an operator needs to find its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reason: metric label, log code and documentation heading.
    pub unfit: Unfit,
    /// What was seen: a path, a date, a name. May be empty.
    pub detail: String,
}

impl Fault {
    /// A reason with its particulars.
    pub fn new(unfit: Unfit, detail: impl Into<String>) -> Self {
        Fault { unfit, detail: detail.into() }
    }
}

impl From<Unfit> for Fault {
    fn from(unfit: Unfit) -> Self {
        Fault { unfit, detail: String::new() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.detail.as_str() {
            "" => self.unfit.fmt(f),
            detail => write!(f, "{}: {detail}", self.unfit),
        }
    }
}

impl std::error::Error for Fault {}
