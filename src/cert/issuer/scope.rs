//! What names the site may issue for, as name constraints.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};

use crate::cert::Fault;
use crate::unfit::Unfit;

/// What names the site may issue for. It is written into root and role authority when they are
/// made, as critical name constraints (RFC 5280 §4.2.1.10), and cannot grow afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    domains: Vec<String>,
    networks: Vec<IpNet>,
}

impl Scope {
    /// From DNS names, each of which permits itself and what is below it (so a short name such as
    /// `mp01` has to be listed), IP addresses, and networks such as `10.0.0.0/8`. IP addresses that
    /// are not listed are forbidden.
    ///
    /// # Errors
    /// [`Unfit::Constrained`] where nothing is permitted.
    pub fn new<S: AsRef<str>>(permitted: &[S]) -> Result<Self, Fault> {
        let mut scope = Scope { domains: Vec::new(), networks: Vec::new() };
        for name in permitted.iter().map(AsRef::as_ref) {
            if let Ok(network) = IpNet::from_str(name) {
                scope.networks.push(network);
            } else if let Ok(ip) = IpAddr::from_str(name) {
                scope.networks.push(IpNet::from(ip));
            } else {
                let name = name.trim_start_matches("*.").trim_matches('.');
                scope.domains.push(name.to_ascii_lowercase());
            }
        }
        scope.domains.retain(|name| !name.is_empty());
        if scope.domains.is_empty() && scope.networks.is_empty() {
            return Err(Fault::new(Unfit::Constrained, "the site may issue for no names at all"));
        }
        Ok(scope)
    }

    /// A name form without a permitted subtree would be free, so each has one or is excluded whole.
    pub(super) fn constraints(&self) -> NameConstraints {
        let subnet = |net: &IpNet| {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(net.addr(), net.prefix_len()))
        };
        let mut permitted: Vec<_> =
            self.domains.iter().cloned().map(GeneralSubtree::DnsName).collect();
        permitted.extend(self.networks.iter().map(subnet));
        let mut excluded = Vec::new();
        if self.domains.is_empty() {
            excluded.push(GeneralSubtree::DnsName(String::new()));
        }
        if self.networks.is_empty() {
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
        }
        NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
    }
}
