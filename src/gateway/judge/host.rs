//! Checks that Host names the site system this connection was opened for.
//!
//! One connection must not request another site system's content: 421 makes the client open a
//! connection of its own (RFC 9110 §15.5.20).

use std::net::{IpAddr, SocketAddr};

use crate::denial::Denial;

/// The known facts of the connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTarget {
    /// Whether the site system is the default, because SNI named no known host.
    pub by_default: bool,
    /// The address that the client connected to.
    pub local: SocketAddr,
}

/// The host of `name` or `name:port`, without brackets.
pub(in crate::gateway) fn host_of(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':')?),
            };
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    let port_ok =
        port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok());
    (port_ok && !host.is_empty() && host.len() <= 255 && host.bytes().all(plain)).then_some(host)
}

/// Judges the Host of a request.
///
/// If SNI picked the site system, Host must be one of the site system's hosts. On the default site
/// system its own IP literal and its short name pass too: old boot media and IP literals send no
/// SNI.
///
/// # Errors
/// [`Denial::HostInvalid`] for a malformed host, [`Denial::HostMisdirected`] for another host.
pub fn judge(host: &[u8], hosts: &[String], asked: ConnectionTarget) -> Result<(), Denial> {
    let host = host_of(host).ok_or(Denial::HostInvalid)?;
    let host = host.strip_suffix('.').unwrap_or(host);
    if hosts.iter().any(|h| h.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    if asked.by_default {
        let own_ip = host.parse::<IpAddr>().is_ok_and(|ip| ip == asked.local.ip().to_canonical());
        let short = |h: &String| {
            h.parse::<IpAddr>().is_err()
                && h.split_once('.').is_some_and(|(s, _)| s.eq_ignore_ascii_case(host))
        };
        if own_ip || hosts.iter().any(short) {
            return Ok(());
        }
    }
    Err(Denial::HostMisdirected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(host: &str, by_default: bool) -> Result<(), Denial> {
        let hosts = ["mp01.contoso.com".to_owned(), "10.1.2.3".to_owned()];
        let local = "192.0.2.7:443".parse().unwrap();
        judge(host.as_bytes(), &hosts, ConnectionTarget { by_default, local })
    }

    #[test]
    fn a_host_of_the_site_system_passes_in_any_case_with_any_port() {
        for host in ["mp01.contoso.com", "MP01.Contoso.COM:443", "mp01.contoso.com.", "10.1.2.3"] {
            assert_eq!(judged(host, false), Ok(()), "{host}");
        }
    }

    #[test]
    fn another_host_is_misdirected_also_under_the_right_server_name() {
        for host in ["dp01.contoso.com", "mp01", "192.0.2.7", "mp01.contoso.com.evil"] {
            assert_eq!(judged(host, false), Err(Denial::HostMisdirected), "{host}");
        }
    }

    #[test]
    fn without_a_known_name_short_name_and_own_address_pass() {
        for host in ["mp01", "MP01:443", "192.0.2.7", "192.0.2.7:443", "mp01.contoso.com"] {
            assert_eq!(judged(host, true), Ok(()), "{host}");
        }
        for host in ["dp01", "192.0.2.8", "10", "example.com"] {
            assert_eq!(judged(host, true), Err(Denial::HostMisdirected), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_invalid() {
        for host in ["", "a,b", "a b", "user@mp01", "mp01/x", "mp01:99999", "mp01:x", "[::1", "a%b"]
        {
            assert_eq!(judged(host, true), Err(Denial::HostInvalid), "{host}");
        }
    }
}
