//! Protocol upgrades: WebSocket in the one form of RFC 6455, and no other protocol.
//!
//! The decision judges whether a route accepts it.

use super::headers::{is, names};
use crate::denial::Denial;

/// The protocol that a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asks {
    /// HTTP.
    #[default]
    Http,
    /// A WebSocket.
    WebSocket,
}

/// Returns the protocol that an HTTP/1.1 request asks for, by its method, its body and its fields.
///
/// # Errors
/// [`Denial::FramingUpgrade`] for another protocol, or for a form other than RFC 6455 §4.1.
pub fn judge<'a>(
    method: &str,
    bodiless: bool,
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<Asks, Denial> {
    let (mut protocols, mut websocket, mut nominated) = (0, false, false);
    let (mut keys, mut versions, mut expects) = (0, 0, false);
    for (name, value) in fields {
        match name.len() {
            7 if name.eq_ignore_ascii_case("upgrade") => {
                protocols += 1;
                websocket = value.trim_ascii().eq_ignore_ascii_case(b"websocket");
            }
            10 if name.eq_ignore_ascii_case("connection") => nominated |= names(value, "upgrade"),
            6 if name.eq_ignore_ascii_case("expect") => expects = true,
            17 if is(name, "sec-websocket-key") => keys += 1,
            21 if is(name, "sec-websocket-version") => versions += 1,
            _ => {}
        }
    }
    match protocols {
        0 => Ok(Asks::Http),
        1 if websocket
            && nominated
            && method == "GET"
            && bodiless
            && !expects
            && (keys, versions) == (1, 1) =>
        {
            Ok(Asks::WebSocket)
        }
        _ => Err(Denial::FramingUpgrade),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &str, bodiless: bool, head: &str) -> Result<Asks, Denial> {
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        judge(method, bodiless, fields.map(|(name, value)| (name, value.as_bytes())))
    }

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13";

    #[test]
    fn a_websocket_is_asked_for_in_one_form() {
        for head in [
            format!("Connection: Upgrade\nUpgrade: websocket\n{KEY}"),
            format!("connection: keep-alive, upgrade\nupgrade: WebSocket\n{KEY}"),
        ] {
            assert_eq!(judged("GET", true, &head), Ok(Asks::WebSocket), "{head}");
        }
        assert_eq!(judged("POST", false, "Connection: keep-alive"), Ok(Asks::Http));
    }

    #[test]
    fn every_other_upgrade_is_refused() {
        let good = format!("Connection: Upgrade\nUpgrade: websocket\n{KEY}");
        for (method, bodiless, head) in [
            ("POST", true, good.clone()),
            ("GET", false, good.clone()),
            ("GET", true, format!("{good}\nExpect: 100-continue")),
            ("GET", true, format!("{good}\nUpgrade: h2c")),
            ("GET", true, format!("Upgrade: websocket\n{KEY}")),
            ("GET", true, format!("Connection: close\nUpgrade: websocket\n{KEY}")),
            ("GET", true, format!("Connection: Upgrade\nUpgrade: websocket, h2c\n{KEY}")),
            ("GET", true, format!("Connection: Upgrade\nUpgrade: websocket/13\n{KEY}")),
            ("GET", true, format!("{good}\nSec-WebSocket-Key: AAAA")),
            ("GET", true, format!("{good}\nSec_WebSocket_Key: AAAA")),
            ("GET", true, "Connection: Upgrade\nUpgrade: websocket".to_owned()),
            ("GET", true, "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c".to_owned()),
            ("GET", true, "Connection: Upgrade\nUpgrade: TLS/1.0".to_owned()),
            ("GET", true, "Connection: Upgrade\nUpgrade: ".to_owned()),
        ] {
            let found = judged(method, bodiless, &head);
            assert_eq!(found, Err(Denial::FramingUpgrade), "{method} {bodiless} {head}");
        }
    }
}
