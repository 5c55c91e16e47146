//! Translates token namespaces to the plain ones, for a backend without token namespaces.
//!
//! Replaces the first segment and changes no other byte.

use super::pattern::Pattern;

/// Each token namespace in canonical form, and its counterpart in Configuration Manager's spelling.
const PAIRS: [(&str, &str); 4] = [
    ("/ccm_system_tokenauth", "/CCM_System"),
    ("/sms_mp_tokenauth", "/SMS_MP"),
    ("/ccmtokenauth_sms_dp_smspkg$", "/SMS_DP_SMSPKG$"),
    ("/ccmtokenauth_sms_dp_smssig$", "/SMS_DP_SMSSIG$"),
];

/// The translation of a token namespace's paths for the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    from: &'static str,
    to: &'static str,
}

impl Translation {
    /// The translation of all paths of a pattern, if it is in a token namespace.
    pub fn of(pattern: &Pattern) -> Option<Self> {
        let path = pattern.to_string();
        let within = |from: &str| {
            path.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = PAIRS.into_iter().find(|(from, _)| within(from));
        found.map(|(from, to)| Translation { from, to })
    }

    /// The namespaces that can be translated, for a hint.
    pub fn namespaces() -> impl Iterator<Item = &'static str> {
        PAIRS.into_iter().map(|(from, _)| from)
    }

    /// The namespace that is sent to the backend.
    pub fn namespace(self) -> &'static str {
        self.to
    }

    /// The target that is sent to the backend, or `None` if it is in another namespace. A canonical
    /// first segment has no escapes, so its length is the same in the target.
    pub fn apply(self, target: &[u8]) -> Option<Vec<u8>> {
        let (segment, rest) = target.split_at_checked(self.from.len())?;
        let ends = matches!(rest.first(), None | Some(b'/' | b'?'));
        let found = ends && segment.eq_ignore_ascii_case(self.from.as_bytes());
        found.then(|| [self.to.as_bytes(), rest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(path: &str, target: &str) -> Option<String> {
        let translation = Translation::of(&Pattern::parse(path).unwrap())?;
        translation.apply(target.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_first_segment_is_another_and_every_other_byte_stays() {
        for (path, target, expected) in [
            (
                "/CCM_System_TokenAuth/",
                "/ccm_SYSTEM_tokenauth/Request?a=/CCM_System_TokenAuth",
                Some("/CCM_System/Request?a=/CCM_System_TokenAuth"),
            ),
            (
                "/SMS_MP_TokenAuth/.sms_pol",
                "/SMS_MP_TokenAuth/.sms_pol?{A}.1_00",
                Some("/SMS_MP/.sms_pol?{A}.1_00"),
            ),
            ("/sms_mp_tokenauth/", "/sms_mp_tokenauth", Some("/SMS_MP")),
            ("/sms_mp_tokenauth/", "/sms_mp_tokenauth?x", Some("/SMS_MP?x")),
            (
                "/ccmtokenauth_sms_dp_smspkg$/",
                "/CCMTOKENAUTH_SMS_DP_SMSPKG$/PS1/a%20b/%C3%A4.msi",
                Some("/SMS_DP_SMSPKG$/PS1/a%20b/%C3%A4.msi"),
            ),
            (
                "/ccmtokenauth_sms_dp_smssig$/",
                "/CCMTOKENAUTH_SMS_DP_SMSSIG$/x.tar",
                Some("/SMS_DP_SMSSIG$/x.tar"),
            ),
            ("/sms_mp_tokenauth/", "/sms_mp_tokenauthx/y", None),
            ("/sms_mp_tokenauth/", "/sms_mp_tokenaut%68/y", None),
            ("/sms_mp_tokenauth/", "/x/sms_mp_tokenauth/y", None),
            ("/sms_mp/", "/sms_mp/.sms_pol", None),
            ("/sms_mp_tokenauthx/", "/sms_mp_tokenauthx/y", None),
            ("/ccm_sts/", "/ccm_sts", None),
        ] {
            assert_eq!(translated(path, target).as_deref(), expected, "{path} {target}");
        }
    }
}
