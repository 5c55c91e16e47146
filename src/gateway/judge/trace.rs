//! A client's trace (W3C Trace Context), continued if the site system trusts its clients for that.
//! Otherwise each request begins a new trace.
//!
//! Only exactly one well-formed field counts: the value goes into other systems' logs.

use crate::gateway::record::request_id::RequestId;

/// A trace to continue.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Trace {
    id: Box<str>,
    sampled: bool,
}

impl Trace {
    /// Reads the trace from the fields of a head.
    pub(in crate::gateway) fn of<'a>(
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Option<Trace> {
        let mut named = fields.filter(|(name, _)| name.eq_ignore_ascii_case("traceparent"));
        let (Some((_, value)), None) = (named.next(), named.next()) else { return None };
        let mut parts = std::str::from_utf8(value).ok()?.split('-');
        let (Some("00"), Some(id), Some(parent), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let something = |text: &str| text.bytes().any(|b| b != b'0');
        let is_one = hex(id, 32) && hex(parent, 16) && hex(flags, 2);
        (is_one && something(id) && something(parent)).then(|| Trace {
            id: id.into(),
            sampled: u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1),
        })
    }

    /// Returns the `traceparent` of this request within the trace.
    pub(in crate::gateway) fn carried(&self, request: &RequestId) -> String {
        format!("00-{}-{}-0{}", self.id, request.span(), u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(values: &[&str]) -> Option<Trace> {
        Trace::of(values.iter().map(|value| ("TraceParent", value.as_bytes())))
    }

    #[test]
    fn a_trace_goes_on_with_its_id_and_a_span_of_ours() {
        let request = RequestId::next();
        for (flags, told) in [("01", "01"), ("00", "00"), ("ff", "01")] {
            let given = format!("{}{flags}", &GOOD[..53]);
            let carried = of(&[&given]).unwrap().carried(&request);
            assert_eq!(carried, format!("{}{}-{told}", &GOOD[..36], request.span()));
            assert_ne!(request.span(), &GOOD[36..52]);
        }
    }

    #[test]
    fn what_is_not_exactly_one_well_formed_field_begins_nothing() {
        let upper = GOOD.to_ascii_uppercase();
        for values in [
            &[][..],
            &[GOOD, GOOD],
            &[""],
            &[&upper],
            &["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"],
            &["00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"],
        ] {
            assert_eq!(of(values), None, "{values:?}");
        }
        assert_eq!(Trace::of([("trace_parent", GOOD.as_bytes())].into_iter()), None);
        assert_eq!(Trace::of([("traceparent", &b"\xff"[..])].into_iter()), None);
    }
}
