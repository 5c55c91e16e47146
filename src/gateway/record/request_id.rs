//! The id of a request, which is also that of its trace.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;
use uuid::fmt::Simple;

/// The id of a request: unique, and not a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    process: u64,
    serial: u64,
}

impl RequestId {
    /// Returns an id that no other request has.
    pub fn next() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let process = *PROCESS.get_or_init(|| Uuid::new_v4().as_u64_pair().0 | 1);
        RequestId { process, serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
    }

    /// Returns the `traceparent` of a trace that begins here (W3C Trace Context §3.2).
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        for part in ["00-", self.hex(&mut buffer()), "-", &self.span(), "-01"] {
            text.push_str(part);
        }
        text
    }

    /// Returns the request's own span of a trace.
    pub(in crate::gateway) fn span(&self) -> String {
        self.hex(&mut buffer()).get(16..).unwrap_or_default().to_owned()
    }

    /// Returns hexadecimal digits without the formatting machinery: each request needs them three
    /// times.
    fn hex<'b>(&self, buffer: &'b mut [u8; Simple::LENGTH]) -> &'b str {
        Uuid::from_u64_pair(self.process, self.serial).simple().encode_lower(buffer)
    }
}

fn buffer() -> [u8; Simple::LENGTH] {
    [0; Simple::LENGTH]
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.hex(&mut buffer()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_valid_trace_ids() {
        let (a, b) = (RequestId::next(), RequestId::next());
        assert_ne!(a.to_string(), b.to_string());
        assert_eq!(a.to_string().len(), 32);
        assert!(a.to_string().bytes().all(|b| b.is_ascii_hexdigit()));
        let (id, span) = (a.to_string(), a.span());
        assert_eq!(a.traceparent(), format!("00-{id}-{span}-01"));
        assert_eq!(span, id[16..]);
    }
}
