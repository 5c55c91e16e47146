//! The content scopes of a token: packages or paths (RFC 6749 §3.3).
//!
//! Compared with canonical paths. An unknown scope refuses the token: ignoring it would lift the
//! restriction.

use std::fmt;

/// The largest number of scopes of one token.
const SCOPES_MAX: usize = 16;
/// The largest size of the claim, in bytes.
const SCOPE_BYTES_MAX: usize = 1024;

/// One scope of a token. A token reaches the paths that any of its scopes covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentScope {
    kind: ScopeKind,
    /// In lower case, like canonical paths.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScopeKind {
    Package,
    Path,
}

impl ContentScope {
    /// Parses the claim: scopes separated by one space. `None` if any of them is not understood.
    pub(super) fn read(claim: &str) -> Option<Vec<Self>> {
        if claim.len() > SCOPE_BYTES_MAX {
            return None;
        }
        let limits: Vec<_> = claim.split(' ').map(Self::one).collect::<Option<_>>()?;
        (limits.len() <= SCOPES_MAX).then_some(limits)
    }

    fn one(text: &str) -> Option<Self> {
        let (kind, text) = text.split_once(':')?;
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'\\' | b'%' | b'?' | b'#' | b'*');
        if text.is_empty() || !text.bytes().all(plain) {
            return None;
        }
        let segment = |segment: &str| !segment.is_empty() && !matches!(segment, "." | "..");
        let (kind, text) = match kind {
            "package" => (ScopeKind::Package, text),
            "path" => (ScopeKind::Path, text.strip_suffix('/').unwrap_or(text)),
            _ => return None,
        };
        let well_formed = match kind {
            ScopeKind::Package => segment(text) && !text.contains('/'),
            ScopeKind::Path => text.strip_prefix('/')?.split('/').all(segment),
        };
        well_formed.then(|| ContentScope { kind, text: text.to_ascii_lowercase() })
    }

    /// Whether it covers a canonical path.
    ///
    /// A package is the second segment of the path: the package itself, one of its versions, or its
    /// signature file (`PS100012`, `PS100012.3`, `PS100012.3.tar`). A path covers itself and
    /// everything below it.
    pub fn covers(&self, canonical: &str) -> bool {
        match self.kind {
            ScopeKind::Package => {
                let name = canonical.split('/').nth(2).unwrap_or_default();
                let rest = name.strip_prefix(&*self.text);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            ScopeKind::Path => {
                let rest = canonical.strip_prefix(&*self.text);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// Whether it covers everything that another scope covers.
    pub fn includes(&self, other: &ContentScope) -> bool {
        match (self.kind, other.kind) {
            (ScopeKind::Package, ScopeKind::Package) => self.text == other.text,
            (ScopeKind::Path, ScopeKind::Path) => self.covers(&other.text),
            _ => false,
        }
    }

    /// Parses a single scope, as requested by a client or operator.
    pub fn parse(text: &str) -> Option<Self> {
        Self::one(text)
    }
}

impl fmt::Display for ContentScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ScopeKind::Package => "package",
            ScopeKind::Path => "path",
        };
        write!(f, "{kind}:{}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn covers(scope: &str, path: &str) -> bool {
        ContentScope::parse(scope).unwrap().covers(path)
    }

    #[rstest]
    #[case("package:PS100012", "/sms_dp_smspkg$/ps100012", true)]
    #[case("package:PS100012", "/sms_dp_smspkg$/ps100012/a.wim", true)]
    #[case("package:PS100012", "/ccmtokenauth_sms_dp_smspkg$/ps100012.3/a", true)]
    #[case("package:PS100012", "/sms_dp_smssig$/ps100012.3.tar", true)]
    #[case("package:PS100012", "/sms_dp_smspkg$/ps1000123/a", false)]
    #[case("package:PS100012", "/sms_dp_smspkg$/ps100013/ps100012", false)]
    #[case("package:PS100012", "/ps100012", false)]
    #[case("package:PS100012", "/sms_dp_smspkg$/", false)]
    #[case("path:/SMS_DP_SMSPKG$/PS100012", "/sms_dp_smspkg$/ps100012/a/b", true)]
    #[case("path:/SMS_DP_SMSPKG$/PS100012/", "/sms_dp_smspkg$/ps100012", true)]
    #[case("path:/sms_dp_smspkg$/ps1", "/sms_dp_smspkg$/ps10", false)]
    #[case("path:/sms_mp/.sms_pol", "/sms_mp/.sms_pol", true)]
    fn a_limit_covers_whole_names(#[case] scope: &str, #[case] path: &str, #[case] is: bool) {
        assert_eq!(covers(scope, path), is);
    }

    #[test]
    fn what_is_not_understood_is_no_limit() {
        for bad in [
            "",
            "content",
            "package:",
            "package:a/b",
            "package:..",
            "path:",
            "path:a",
            "path:/",
            "path:/a//b",
            "path:/a/../b",
            "path:/a%2fb",
            "path:/a\\b",
            "path:/a?b",
            "PACKAGE:a",
            "package:a  package:b",
            " package:a",
            "package:ä",
            "other:a",
        ] {
            assert_eq!(ContentScope::read(bad), None, "{bad:?}");
        }
        assert!(ContentScope::read(&vec!["package:a"; 16].join(" ")).is_some());
        assert!(ContentScope::read(&vec!["package:a"; 17].join(" ")).is_none());
        assert!(ContentScope::read(&format!("package:{}", "a".repeat(1024))).is_none());
    }

    proptest! {
        #[test]
        fn one_package_never_opens_another(a in "[A-Z]{3}[0-9]{5}", b in "[A-Za-z0-9_]{1,12}") {
            let path = format!("/sms_dp_smspkg$/{}/x", b.to_ascii_lowercase());
            let same = a.eq_ignore_ascii_case(&b);
            let told = format!("package:{}", a);
            prop_assert_eq!(covers(&told, &path), same);
        }

        #[test]
        fn a_scope_limit_round_trips_through_text(text in "(package:[A-Za-z0-9_.-]{1,20}[a-z]|path:(/[A-Za-z0-9$_]{1,9}){1,4})") {
            let read = ContentScope::parse(&text).unwrap();
            prop_assert_eq!(ContentScope::parse(&read.to_string()), Some(read));
        }
    }
}
