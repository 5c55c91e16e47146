//! Which site system a connection is for: the address it came to and the name in its ClientHello.
//!
//! The only site system on an address is its default; with several, one may be marked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rustls::ServerConfig;

/// Gives the TLS configuration to use for the next handshake, or none while no certificate is fit.
pub type TlsSource = Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>;

/// One site system behind an address.
#[derive(Clone)]
pub struct Door {
    /// The site system's configured name.
    pub site: Arc<str>,
    /// The names it answers to, lower case.
    pub hosts: Vec<String>,
    /// Its TLS configuration of the moment; never asked for on an address of plain HTTP.
    pub tls: TlsSource,
}

/// All site systems behind one listening address.
#[derive(Clone)]
pub struct Binding {
    /// The address as configured; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The site systems, in the order of the configuration.
    pub doors: Vec<Door>,
    /// The site system for connections without a name, or with an unknown one.
    pub default: Option<usize>,
    /// The networks of load balancers, whose connections begin with a PROXY protocol header; those
    /// of all others do not.
    pub balancers: Vec<IpNet>,
    /// Whether it is an address of plain HTTP: its connections are no TLS, and whose they are is said
    /// by each request.
    pub clear: bool,
}

/// The site system picked for a connection.
pub struct Picked<'a> {
    /// Where it leads.
    pub door: &'a Door,
    /// Picked for want of a name that is known, so the request's Host has to say more.
    pub by_default: bool,
}

impl Binding {
    /// Whether a connection from that address is a load balancer's.
    pub(super) fn is_balancer(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.balancers.iter().any(|network| network.contains(&address))
    }

    /// The site system that a connection is for, or none if its name is unknown and there is no
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
    fn the_only_site_system_is_the_default_for_old_boot_media_and_unknown_names() {
        let only = binding(&[&["mp01.contoso.com"]], None);
        for (sni, by_default) in
            [(None, true), (Some("other"), true), (Some("MP01.Contoso.com."), false)]
        {
            assert_eq!(only.pick(sni).unwrap().by_default, by_default, "{sni:?}");
        }
    }

    #[test]
    fn a_balancer_is_one_by_its_address_also_where_that_comes_mapped_into_ipv6() {
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
    fn with_several_an_unknown_name_is_refused_unless_one_is_marked_the_default() {
        let hosts: &[&[&str]] = &[&["mp01"], &["dp01"]];
        assert!(binding(hosts, None).pick(Some("x")).is_none());
        assert!(binding(hosts, None).pick(None).is_none());
        assert_eq!(&*binding(hosts, Some(1)).pick(None).unwrap().door.site, "dp01");
        assert_eq!(&*binding(hosts, Some(1)).pick(Some("mp01")).unwrap().door.site, "mp01");
    }
}
