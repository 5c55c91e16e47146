//! The names that the site may issue for, as name constraints.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use rcgen::CustomExtension;

use crate::cert::CredentialFault;
use crate::cert::export::{SEQUENCE, tlv};
use crate::unfit::Unfit;

/// The names that the site may issue for. They are written into root and role-signing CA at
/// creation, as critical name constraints (RFC 5280 §4.2.1.10), and cannot be extended afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    domains: Vec<String>,
    networks: Vec<IpNet>,
}

impl Scope {
    /// Made of DNS names, each of which permits itself and its subdomains (so a short name such as
    /// `mp01` must be listed), IP addresses, and networks such as `10.0.0.0/8`. IP addresses that
    /// are not listed are forbidden.
    ///
    /// # Errors
    /// [`Unfit::Constrained`] if nothing is permitted.
    pub fn new<S: AsRef<str>>(permitted: &[S]) -> Result<Self, CredentialFault> {
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
            return Err(CredentialFault::new(
                Unfit::Constrained,
                "the site may issue for no names at all",
            ));
        }
        Ok(scope)
    }

    /// The name constraints. A name form without a permitted subtree would be unconstrained, so
    /// each form either has one or is excluded completely.
    ///
    /// Written as a custom extension, because rcgen writes those last: wolfSSL honors name
    /// constraints only if the basic constraints before them declare a CA.
    pub(super) fn constraints(&self) -> CustomExtension {
        const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
        const PERMITTED: u8 = 0xA0;
        const EXCLUDED: u8 = 0xA1;
        let domains = self.domains.iter().map(|name| dns(name));
        let permitted = domains.chain(self.networks.iter().map(network)).collect::<Vec<_>>();
        let mut excluded = Vec::new();
        if self.domains.is_empty() {
            excluded.push(dns(""));
        }
        if self.networks.is_empty() {
            excluded.push(address(&[0; 8]));
            excluded.push(address(&[0; 32]));
        }
        let subtrees =
            |tag, of: Vec<Vec<u8>>| if of.is_empty() { Vec::new() } else { tlv(tag, &of.concat()) };
        let both = [subtrees(PERMITTED, permitted), subtrees(EXCLUDED, excluded)].concat();
        let mut extension =
            CustomExtension::from_oid_content(NAME_CONSTRAINTS, tlv(SEQUENCE, &both));
        extension.set_criticality(true);
        extension
    }
}

/// A subtree of DNS names (RFC 5280 §4.2.1.10, GeneralSubtree).
fn dns(name: &str) -> Vec<u8> {
    tlv(SEQUENCE, &tlv(0x82, name.as_bytes()))
}

/// A subtree of IP addresses: the address, and its mask.
fn address(with_mask: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &tlv(0x87, with_mask))
}

fn network(net: &IpNet) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    address(&[octets(net.addr()), octets(net.netmask())].concat())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CidrSubnet, GeneralSubtree, KeyPair, NameConstraints};

    use super::*;

    #[test]
    fn name_constraints_are_written_as_rcgen_writes_them() {
        let subnet = |net: &str| {
            let net: IpNet = net.parse().unwrap();
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(net.addr(), net.prefix_len()))
        };
        let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
        let any = [CidrSubnet::V4([0; 4], [0; 4]), CidrSubnet::V6([0; 16], [0; 16])];
        let any: Vec<_> = any.into_iter().map(GeneralSubtree::IpAddress).collect();
        for (given, permitted, excluded) in [
            (&["contoso.com", "mp01"][..], vec![dns("contoso.com"), dns("mp01")], any),
            (
                &["contoso.com", "10.0.0.0/9", "2001:db8::7"],
                vec![dns("contoso.com"), subnet("10.0.0.0/9"), subnet("2001:db8::7/128")],
                vec![],
            ),
            (&["192.0.2.1"], vec![subnet("192.0.2.1/32")], vec![dns("")]),
        ] {
            let ours = Scope::new(given).unwrap().constraints();
            let mut params = CertificateParams::default();
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: permitted,
                excluded_subtrees: excluded,
            });
            let theirs = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let (_, theirs) = x509_parser::parse_x509_certificate(theirs.der()).unwrap();
            let theirs = theirs.iter_extensions().next().unwrap();
            assert_eq!(ours.content(), theirs.value, "{given:?}");
            assert!(ours.criticality() && theirs.critical);
        }
    }
}
