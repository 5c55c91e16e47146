//! Rejects conflicting listen addresses, and backends that are this process itself.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::ResolveScope;
use crate::config::resolved::{BackendAddress, SiteSystem};

/// Whether two different addresses cannot both be bound: a wildcard takes its port on every
/// address, and `[::]` on the IPv4 addresses as well.
fn exclude_each_other(one: SocketAddr, other: SocketAddr) -> bool {
    one != other
        && one.port() == other.port()
        && one.port() != 0
        && (takes(one.ip(), other.ip()) || takes(other.ip(), one.ip()))
}

fn takes(wildcard: IpAddr, address: IpAddr) -> bool {
    wildcard.is_unspecified() && (wildcard.is_ipv6() || address.is_ipv4())
}

/// Whether a connection to this host and port reaches that listener.
fn arrives(host: &str, port: u16, listen: SocketAddr) -> bool {
    let ip = match host {
        "localhost" => None,
        _ => match host.parse::<IpAddr>() {
            Ok(ip) => Some(ip),
            Err(_) => return false,
        },
    };
    let at_home = ip.is_none_or(|ip| ip.is_loopback());
    port == listen.port()
        && match (listen.ip(), ip) {
            (any, Some(ip)) if any.is_unspecified() => at_home && takes(any, ip),
            (any, None) if any.is_unspecified() => true,
            (own, Some(ip)) => own == ip,
            (own, None) => own.is_loopback(),
        }
}

/// Every address of every site system, with the system's name.
fn all(systems: &[(Range<usize>, SiteSystem)]) -> Vec<(&Range<usize>, &str, SocketAddr)> {
    systems
        .iter()
        .flat_map(|(span, system)| system.listens().map(move |at| (span, system.name.as_str(), at)))
        .collect()
}

/// Rejects addresses of site systems that conflict with each other, or with those of `[admin]` and
/// `[metrics]`.
pub(super) fn clashes(
    systems: &[(Range<usize>, SiteSystem)],
    own: [(&str, SocketAddr); 2],
    scope: &mut ResolveScope<'_>,
) {
    let all = all(systems);
    for (n, (span, name, at)) in all.iter().enumerate() {
        let before = all.iter().take(n).find(|(_, _, other)| exclude_each_other(*at, *other));
        if let Some((_, other, address)) = before {
            let message = format!("'{name}' listens on {at}, and '{other}' on {address}");
            let hint =
                "a wildcard takes its port of every address: write one of them, or other ports";
            scope.conflict((*span).clone(), message, hint);
        }
        for (section, address) in own {
            if exclude_each_other(*at, address) || *at == address && at.port() != 0 {
                let message = format!("'{name}' listens on {at}, and [{section}] on {address}");
                scope.conflict((*span).clone(), message, "give one of them another port");
            }
        }
    }
    for (span, system) in systems {
        for backend in system.backends() {
            let BackendAddress::Host(host, port) = &backend.address else { continue };
            let own = all.iter().find(|(_, _, at)| arrives(host, *port, *at));
            if let Some((_, other, at)) = own {
                let message = format!(
                    "the backend {} of '{}' is this gateway: '{other}' listens on {at}",
                    backend.url, system.name
                );
                let hint = "write the address of the web server behind sitegate";
                scope.conflict(span.clone(), message, hint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_exclude_the_addresses_that_they_take() {
        for (one, other, excluded) in [
            ("0.0.0.0:443", "[::]:443", true),
            ("0.0.0.0:443", "192.0.2.1:443", true),
            ("[::]:443", "192.0.2.1:443", true),
            ("[::]:443", "[2001:db8::1]:443", true),
            ("0.0.0.0:443", "[2001:db8::1]:443", false),
            ("192.0.2.1:443", "192.0.2.2:443", false),
            ("0.0.0.0:443", "0.0.0.0:443", false),
            ("0.0.0.0:443", "[::]:80", false),
            ("0.0.0.0:0", "[::]:0", false),
        ] {
            let (a, b) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(exclude_each_other(a, b), excluded, "{one} {other}");
            assert_eq!(exclude_each_other(b, a), excluded, "{other} {one}");
        }
    }

    #[test]
    fn a_backend_may_be_a_listener_by_any_of_its_names() {
        for (host, port, listen, own) in [
            ("127.0.0.1", 80, "0.0.0.0:80", true),
            ("127.0.0.1", 80, "[::]:80", true),
            ("::1", 80, "[::]:80", true),
            ("localhost", 80, "0.0.0.0:80", true),
            ("localhost", 80, "127.0.0.1:80", true),
            ("192.0.2.1", 80, "192.0.2.1:80", true),
            ("127.0.0.1", 80, "127.0.0.1:80", true),
            ("127.0.0.1", 8080, "0.0.0.0:80", false),
            ("127.0.0.2", 80, "127.0.0.1:80", false),
            ("::1", 80, "0.0.0.0:80", false),
            ("192.0.2.9", 80, "0.0.0.0:80", false),
            ("localhost", 80, "192.0.2.1:80", false),
            ("iis.contoso.com", 80, "0.0.0.0:80", false),
        ] {
            assert_eq!(arrives(host, port, listen.parse().unwrap()), own, "{host}:{port} {listen}");
        }
    }
}
