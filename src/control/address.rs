//! SSRF protection: tells public IP addresses from special-purpose ones, for URLs from outside.
//!
//! Checks addresses, never host names: a name can resolve to something else by the time it is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not a public Internet address; `None` if it is public.
pub(super) fn not_public(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) => v4_fault(v4),
        IpAddr::V6(v6) => v6_fault(v6),
    }
}

/// The IANA IPv4 Special-Purpose Address Registry (RFC 6890), and multicast.
fn v4_fault(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Some("private"),
        [100, 64..=127, ..] => Some("shared by a provider (RFC 6598)"),
        [169, 254, ..] => Some("link-local"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("for documentation"),
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => Some("for special purposes"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved"),
        _ => None,
    }
}

/// Addresses outside 2000::/3 are not global unicast (RFC 4291 §2.4). An embedded IPv4 address is
/// the one that is reached, so it decides.
fn v6_fault(ip: Ipv6Addr) -> Option<&'static str> {
    let embedded = |a: u16, b: u16| {
        let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
        v4_fault(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => embedded(a, b),
        [0x2002, a, b, ..] => embedded(a, b),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xfc00..=0xfdff, ..] => Some("private (unique local)"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("for documentation"),
        [0x2001, 0..=0x1ff, ..] => Some("for special purposes"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_unicast_is_public_however_it_is_wrapped() {
        for public in [
            "8.8.8.8",
            "20.190.160.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "223.255.255.255",
            "2603:1006:2000::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert_eq!(not_public(public.parse().unwrap()), None, "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(not_public(private.parse().unwrap()).is_some(), "{private}");
        }
    }
}
