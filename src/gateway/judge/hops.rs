//! Loop detection: a backend that leads back to this gateway would send each request around until
//! connections run out. Each request carries a mark of the process in `CDN-Loop` (RFC 8586), and is
//! refused when it returns.

use std::borrow::Cow;
use std::sync::LazyLock;

use uuid::Uuid;

use super::headers::is;
use crate::denial::Denial;

/// The field with the marks of all proxies that have forwarded a request.
pub(in crate::gateway) const FIELD: &str = "CDN-Loop";

/// The mark of this process, unique to it.
static OWN: LazyLock<String> =
    LazyLock::new(|| format!("sitegate-{:016x}", Uuid::new_v4().as_u64_pair().0));

/// The marks of the proxies that have forwarded a request.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct Hops(Vec<u8>);

impl Hops {
    /// Reads the marks from a request's fields.
    ///
    /// # Errors
    /// [`Denial::HostLoop`] if this process has forwarded the request already.
    pub(in crate::gateway) fn of<'a>(
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, Denial> {
        Hops::before(&OWN, fields)
    }

    fn before<'a>(
        own: &str,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, Denial> {
        let mut hops = Vec::new();
        for (_, value) in fields.filter(|(name, _)| is(name, FIELD)) {
            if value.split(|b| *b == b',').any(|hop| name_of(hop) == own.as_bytes()) {
                return Err(Denial::HostLoop);
            }
            if !hops.is_empty() {
                hops.extend_from_slice(b", ");
            }
            hops.extend_from_slice(value);
        }
        Ok(Hops(hops))
    }

    /// Returns the marks with this process appended.
    pub(in crate::gateway) fn and_ours(&self) -> Cow<'static, [u8]> {
        match self.0.as_slice() {
            [] => Cow::Borrowed(OWN.as_bytes()),
            before => Cow::Owned([before, b", ", OWN.as_bytes()].concat()),
        }
    }
}

/// Returns the name in a mark, without its parameters.
fn name_of(hop: &[u8]) -> &[u8] {
    hop.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nobody(&[], false)]
    #[case::another(&[("CDN-Loop", "sitegate-0000000000000002")], false)]
    #[case::ours(&[("CDN-Loop", "sitegate-0000000000000001")], true)]
    #[case::ours_in_another_spelling(&[("cdn_loop", "sitegate-0000000000000001")], true)]
    #[case::ours_among_others(&[("CDN-Loop", "cdn.example; x=1 ,\tsitegate-0000000000000001")], true)]
    #[case::ours_in_a_later_field(&[("CDN-Loop", "a"), ("cdn-loop", "sitegate-0000000000000001")], true)]
    #[case::ours_with_a_parameter(&[("CDN-Loop", "sitegate-0000000000000001;v=2")], true)]
    #[case::a_part_of_ours(&[("CDN-Loop", "sitegate-000000000000000")], false)]
    #[case::another_field(&[("X-Loop", "sitegate-0000000000000001")], false)]
    fn a_request_that_was_here_is_known(#[case] fields: &[(&str, &str)], #[case] was_here: bool) {
        let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        let judged = Hops::before("sitegate-0000000000000001", fields);
        assert_eq!(judged.err(), was_here.then_some(Denial::HostLoop));
    }

    #[rstest]
    #[case::alone(&[], "")]
    #[case::after_others(&[("CDN-Loop", "a;b"), ("CDN-Loop", "c, d")], "a;b, c, d, ")]
    fn others_stay_before_our_mark(#[case] fields: &[(&str, &str)], #[case] before: &str) {
        let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        let marked = String::from_utf8(Hops::of(fields).unwrap().and_ours().into()).unwrap();
        assert_eq!(marked, format!("{before}{}", *OWN));
    }
}
