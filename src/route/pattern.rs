//! The paths that a route covers, as they are configured.

use std::borrow::Cow;
use std::fmt;

use super::path::{CanonicalPath, is_certain};
use crate::denial::Denial;

/// The longest path of a route, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// The paths that a route covers: one path, or (with a trailing slash) a path and its subtree.
///
/// A single path also claims its subtree from shorter patterns: a backend that runs
/// `/sms_mp/.sms_pol/x` as `.sms_pol` must not be reached through `/sms_mp/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Without the trailing slash.
    path: Cow<'static, str>,
    with_subtree: bool,
}

impl Pattern {
    /// The pattern of a path as it is configured, in any case.
    ///
    /// # Errors
    /// As [`CanonicalPath::parse`]; a query is [`Denial::PathMalformed`].
    pub fn parse(path: &str) -> Result<Self, Denial> {
        if path.contains('?') {
            return Err(Denial::PathMalformed);
        }
        let path = CanonicalPath::parse(path.as_bytes(), PATTERN_BYTES_MAX)?;
        if !path.is_plain() {
            return Err(Denial::PathAmbiguous);
        }
        let path = path.to_string();
        Ok(match path.strip_suffix('/') {
            Some(stem) => Pattern { path: stem.to_owned().into(), with_subtree: true },
            None => Pattern { path: path.into(), with_subtree: false },
        })
    }

    /// Whether it covers a subtree.
    pub(super) fn with_subtree(&self) -> bool {
        self.with_subtree
    }

    /// The number of segments of its path.
    pub(super) fn segments(&self) -> usize {
        self.path.split('/').count()
    }

    /// The length of its path, without a trailing slash, in bytes.
    pub(super) fn path_len(&self) -> usize {
        self.path.len()
    }

    /// The pattern of a path that is already canonical.
    pub(super) const fn of_canonical(path: &'static str) -> Self {
        match path.as_bytes() {
            [.., b'/'] => {
                Pattern { path: Cow::Borrowed(path.split_at(path.len() - 1).0), with_subtree: true }
            }
            _ => Pattern { path: Cow::Borrowed(path), with_subtree: false },
        }
    }

    /// How the pattern covers a canonical path.
    pub(super) fn reach(&self, key: &str) -> RouteReach {
        match key.strip_prefix(&*self.path) {
            Some("") => RouteReach::Covers,
            Some(below) if below.starts_with('/') => {
                if self.with_subtree {
                    RouteReach::Covers
                } else {
                    RouteReach::Claims
                }
            }
            _ => RouteReach::None,
        }
    }

    /// Whether some server could read a path as one within this pattern: each segment equals the
    /// pattern's or, after the first `exactly` ones, is one that servers may read differently.
    pub(super) fn may_be_read(&self, key: &str, exactly: usize) -> bool {
        let mut read = key.split('/');
        self.path.split('/').enumerate().all(|(place, own)| {
            let same = |read: &str| read == own || place >= exactly && !is_certain(read);
            read.next().is_some_and(same)
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, if self.with_subtree { "/" } else { "" })
    }
}

/// How a pattern covers a path.
pub(super) enum RouteReach {
    /// The path is within the pattern.
    Covers,
    /// Within the subtree of a single path: no shorter pattern covers it either.
    Claims,
    /// The path is outside.
    None,
}
