//! Picks the site system of a connection by the local address and the SNI in its ClientHello.
//!
//! The only site system on an address is its default; with several, one may be marked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rustls::ServerConfig;

/// Returns the TLS configuration for the next handshake, or `None` while no certificate is fit.
pub type TlsSource = Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>;

/// One site system behind an address.
#[derive(Clone)]
pub struct Door {
    /// The site system's configured name.
    pub site: Arc<str>,
    /// Its host names, lower case.
    pub hosts: Vec<String>,
    /// Its current TLS configuration; not used on a plain-HTTP address.
    pub tls: TlsSource,
}

/// All site systems behind one listening address.
#[derive(Clone)]
pub struct Binding {
    /// The configured address; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The site systems, in configuration order.
    pub doors: Vec<Door>,
    /// The site system for connections without SNI, or with an unknown name.
    pub default: Option<usize>,
    /// The networks of load balancers. Connections from them begin with a PROXY protocol header;
    /// all others do not.
    pub balancers: Vec<IpNet>,
    /// Whether it is a plain-HTTP address: no TLS, and each request names its site system.
    pub clear: bool,
}

/// The site system picked for a connection.
pub struct Picked<'a> {
    /// The site system.
    pub door: &'a Door,
    /// Whether it is the default, because SNI named no known host; the request's Host must say
    /// more.
    pub by_default: bool,
}

impl Binding {
    /// Checks whether an address belongs to a load balancer.
    pub(super) fn is_balancer(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.balancers.iter().any(|network| network.contains(&address))
    }

    /// Returns the site system of a connection, or `None` if its name is unknown and there is no
    /// default.
    pub fn pick(&self, sni: Option<&str>) -> Option<Picked<'_>> {
        let named = sni.and_then(|sni| {
            let name = sni.strip_suffix('.').unwrap_or(sni);
            self.doors.iter().find(|d| d.hosts.iter().any(|h| h.eq_ignore_ascii_case(name)))
        });
        match named {
            Some(door) => Some(Picked { door, by_default: false }),
            None => {
                let index = self.default.or((self.doors.len() == 1).then_some(0))?;
                Some(Picked { door: self.doors.get(index)?, by_default: true })
            }
        }
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sites: Vec<_> = self.doors.iter().map(|d| &*d.site).collect();
        write!(f, "Binding({} for {sites:?})", self.listen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(names: &[&[&str]], default: Option<usize>) -> Binding {
        let doors = names
            .iter()
            .map(|hosts| Door {
                site: Arc::from(hosts[0]),
                hosts: hosts.iter().map(|h| h.to_string()).collect(),
                tls: Arc::new(|| None),
            })
            .collect();
        let listen = "127.0.0.1:0".parse().unwrap();
        Binding {
            listen,
            doors,
            default,
            balancers: vec!["192.0.2.0/24".parse().unwrap()],
            clear: false,
        }
    }

    #[test]
    fn a_single_site_system_is_the_default_for_unknown_names() {
        let only = binding(&[&["mp01.contoso.com"]], None);
        for (sni, by_default) in
            [(None, true), (Some("other"), true), (Some("MP01.Contoso.com."), false)]
        {
            assert_eq!(only.pick(sni).unwrap().by_default, by_default, "{sni:?}");
        }
    }

    #[test]
    fn a_balancer_is_recognized_by_address_even_ipv4_mapped() {
        let binding = binding(&[&["mp01"]], None);
        for (address, listed) in [
            ("192.0.2.255", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.3.0", false),
            ("::1", false),
        ] {
            assert_eq!(binding.is_balancer(address.parse().unwrap()), listed, "{address}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_without_a_marked_default() {
        let hosts: &[&[&str]] = &[&["mp01"], &["dp01"]];
        assert!(binding(hosts, None).pick(Some("x")).is_none());
        assert!(binding(hosts, None).pick(None).is_none());
        assert_eq!(&*binding(hosts, Some(1)).pick(None).unwrap().door.site, "dp01");
        assert_eq!(&*binding(hosts, Some(1)).pick(Some("mp01")).unwrap().door.site, "mp01");
    }
}
