//! `[limits]`: its keys, each declared once.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Map;

use super::declared::{
    Bytes, DeclaredField, KeyDeclaration, Number, Time, ValueKind, object, property, resolve,
    section,
};
use super::scope::ResolveScope;
use super::spanned::Spanned;

section! {
    /// `[limits]`: what clients may take. Limits of connections apply to those accepted after they
    /// were set.
    Limits from LimitsFile;

    /// Threads that serve clients; 0: one per processor.
    threads: Number, default "0", from "0" to "65535";

    /// Client connections at once.
    connections: Number, default "20000", from "1";

    /// TLS handshakes at once; more wait, within their `handshake_time`.
    ///
    /// A connection does not count before its first message has arrived, nor after sitegate has
    /// waited a quarter of a second for the client.
    handshakes: Number, default "512", from "1";

    /// Connections at once from one IPv4 address or one IPv6 /64; not counted by default.
    per_address: Option<Number>, example "256", from "1";

    /// Requests in flight at once, each with its own backend connection; more wait a moment.
    ///
    /// At most half of the open-file limit. Unauthenticated requests get at most half of them. One
    /// address, and one backend, may have four times the number that is still free, which is four
    /// fifths if there is no other: a newcomer always finds room. A request beyond that waits for
    /// up to two seconds, and then gets 503 (`limit.requests_in_flight`) with `Retry-After`.
    requests: Number, default "20000", from "1";

    /// Requests in flight at once from one IPv4 address or one IPv6 /64, even if more are free; not
    /// bounded by default.
    requests_per_address: Option<Number>, example "64", from "1";

    /// Memory for requests that are not yet forwarded and for responses whose links are rewritten,
    /// over all connections; at least 16MiB.
    ///
    /// It counts heads, messages under inspection and bodies up to 64 KiB. Bodies of
    /// unauthenticated requests get at most half of it, and one connection about 1 MiB. Beyond
    /// that, a request gets 503 (`limit.requests_in_flight`), and a response is forwarded with its
    /// links unchanged.
    buffered_bytes: Bytes, default "256MiB", from "16MiB";

    /// From accepting a connection to the end of its TLS handshake.
    handshake_time: Time, default "10s", from "1ms";

    /// From the first byte of a request head to its last.
    header_time: Time, default "20s", from "1ms";

    /// The largest request head; 1KiB to 512KiB.
    header_bytes: Bytes, default "64KiB", from "1KiB" to "512KiB";

    /// The maximum number of fields in a request head.
    headers: Number, default "128", from "1" to "256";

    /// The longest request target; 1KiB to 512KiB.
    uri_bytes: Bytes, default "16KiB", from "1KiB" to "512KiB";

    /// How long a keep-alive connection may be idle between requests.
    idle_time: Time, default "120s", from "1ms";

    /// Streams that an HTTP/2 client may have open at once on one connection.
    http2_streams: Number, default "100", from "1" to "1000";

    /// The minimum rate of a request body once its grace is used up.
    body_bytes_per_second: Number, default "240", from "0";

    /// How long a request body may stall or fall behind the minimum rate.
    ///
    /// Over HTTP/2, where streams share a connection, this applies to each stream.
    body_grace: Time, default "30s", from "1ms";

    /// How long a client may read nothing of a response that is ready for it.
    ///
    /// Over HTTP/2, this applies to each stream.
    send_stall: Time, default "5m", from "1ms";

    /// How long requests in flight may continue after SIGTERM. TimeoutStopSec of the service must
    /// be longer.
    ///
    /// A second SIGTERM cuts them off.
    drain_time: Time, default "10m", from "1ms";

    /// How many verified tokens are cached.
    token_cache: Number, default "100000", from "1";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a number in the unit of a declared value.
    fn written(number: u64, like: &str) -> String {
        if Number::parse(like).is_some() {
            number.to_string()
        } else if Bytes::parse(like).is_some() {
            format!("\"{number}B\"")
        } else {
            format!("\"{number}ms\"")
        }
    }

    fn number(text: &str) -> u64 {
        let parsed = Number::parse(text).or_else(|| Bytes::parse(text));
        parsed.or_else(|| Time::parse(text)).unwrap_or_else(|| panic!("{text} is no value"))
    }

    /// Returns whether the bounds of a key are what a value is refused for.
    fn is_out_of_bounds(key: &KeyDeclaration, value: &str) -> bool {
        let text = format!("[limits]\n{} = {value}", key.name);
        let now = jiff::Timestamp::UNIX_EPOCH;
        let errors = crate::config::parse(&text, "test", std::path::Path::new("/"), now);
        let errors = errors.expect_err("no site is configured").errors;
        errors.iter().any(|e| e.message.starts_with(&format!("{} must be ", key.name)))
    }

    #[test]
    fn every_key_takes_the_values_within_its_bounds() {
        for key in Limits::KEYS {
            let least = number(key.least);
            assert!(!is_out_of_bounds(key, &written(least, key.least)), "{}", key.name);
            if let Some(below) = least.checked_sub(1) {
                assert!(is_out_of_bounds(key, &written(below, key.least)), "{}", key.name);
            }
            if let Some(most) = key.most {
                let most = number(most);
                assert!(!is_out_of_bounds(key, &written(most, key.least)), "{}", key.name);
                assert!(is_out_of_bounds(key, &written(most + 1, key.least)), "{}", key.name);
            }
        }
    }

    #[test]
    fn a_key_has_a_default_or_an_example() {
        for key in Limits::KEYS {
            assert_ne!(key.default.is_some(), key.example.is_some(), "{}", key.name);
            let value = number(key.default.or(key.example).unwrap_or_default());
            assert!(!is_out_of_bounds(key, &written(value, key.least)), "{}", key.name);
        }
    }
}
