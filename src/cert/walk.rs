//! Path validation by RFC 5280 §6.1, without policies and directory names: for chains that exceed
//! webpki's limits, if the operator has configured that clients accept them.
//!
//! Used only for the certificate that this machine serves, never for a client's or a backend's. Its
//! work is bounded.

use std::cell::Cell;
use std::net::IpAddr;

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::facts::{ip, strong};
use super::{Anchors, Credential, Facts};

/// A chain has at most ten certificates; cross-signed ones may be tried in several orders.
const SIGNATURES_MAX: u32 = 64;

/// Whether the chain leads to a root that is trusted now.
pub(super) fn leads_to_a_root(credential: &Credential, anchors: &Anchors, now: Timestamp) -> bool {
    let mut chain = credential.chain().iter();
    let Some(leaf) = chain.next().and_then(|der| X509Certificate::from_der(der).ok()) else {
        return false;
    };
    let issuers: Vec<X509Certificate<'_>> =
        chain.filter_map(|der| X509Certificate::from_der(der).ok()).map(|(_, read)| read).collect();
    let fit = anchors.iter().filter(|anchor| anchor.fit_at(now).is_ok());
    let roots: Vec<X509Certificate<'_>> = fit
        .filter_map(|anchor| X509Certificate::from_der(anchor.der()).ok())
        .map(|(_, read)| read)
        .collect();
    let facts = credential.facts();
    let budget = Cell::new(SIGNATURES_MAX);
    let walk = Walk { issuers: &issuers, roots: &roots, facts, now: now.as_second(), budget };
    walk.up(&leaf.1, &mut Vec::new())
}

struct Walk<'a> {
    issuers: &'a [X509Certificate<'a>],
    roots: &'a [X509Certificate<'a>],
    /// The leaf's facts.
    facts: &'a Facts,
    now: i64,
    budget: Cell<u32>,
}

impl Walk<'_> {
    /// Whether a path leads up from a certificate; `used` are the CAs below.
    fn up(&self, below: &X509Certificate<'_>, used: &mut Vec<usize>) -> bool {
        let others = used.len();
        let is_issuer = |above: &X509Certificate<'_>| {
            above.subject().as_raw() == below.issuer().as_raw()
                && self.may_issue(above, others)
                && self.signed(above, below)
        };
        if self.roots.iter().any(is_issuer) {
            return true;
        }
        for (place, above) in self.issuers.iter().enumerate() {
            let validity = above.validity();
            let valid = (validity.not_before.timestamp()..=validity.not_after.timestamp())
                .contains(&self.now);
            if used.contains(&place) || !valid || !is_authority(above) || !is_issuer(above) {
                continue;
            }
            used.push(place);
            if self.up(above, used) {
                return true;
            }
            used.pop();
        }
        false
    }

    fn signed(&self, above: &X509Certificate<'_>, below: &X509Certificate<'_>) -> bool {
        let Some(left) = self.budget.get().checked_sub(1) else { return false };
        self.budget.set(left);
        strong(&below.signature_algorithm)
            && below.verify_signature(Some(above.public_key())).is_ok()
    }

    /// Whether a CA certificate's extensions permit it to be above that many other CAs and the
    /// leaf.
    fn may_issue(&self, authority: &X509Certificate<'_>, others: usize) -> bool {
        authority.extensions().iter().all(|extension| match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => {
                basic.path_len_constraint.is_none_or(|len| others as u64 <= u64::from(len))
            }
            ParsedExtension::KeyUsage(usage) => usage.key_cert_sign(),
            ParsedExtension::ExtendedKeyUsage(usage) => usage.any || usage.server_auth,
            ParsedExtension::NameConstraints(names) => self.within(names),
            ParsedExtension::CertificatePolicies(_)
            | ParsedExtension::PolicyMappings(_)
            | ParsedExtension::PolicyConstraints(_)
            | ParsedExtension::InhibitAnyPolicy(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::CRLDistributionPoints(_) => true,
            _ => !extension.critical,
        })
    }

    /// RFC 5280 §4.2.1.10, for hosts and addresses.
    fn within(&self, names: &NameConstraints<'_>) -> bool {
        let permitted = names.permitted_subtrees.as_deref().unwrap_or_default();
        let excluded = names.excluded_subtrees.as_deref().unwrap_or_default();
        let limits_dns = permitted.iter().any(|t| matches!(t.base, GeneralName::DNSName(_)));
        let limits_ips = permitted.iter().any(|t| matches!(t.base, GeneralName::IPAddress(_)));
        let dns = |trees: &[GeneralSubtree<'_>], name: &str| {
            trees
                .iter()
                .any(|tree| matches!(tree.base, GeneralName::DNSName(base) if is_below(name, base)))
        };
        let ips = |trees: &[GeneralSubtree<'_>], address: IpAddr| {
            trees.iter().any(
                |tree| matches!(tree.base, GeneralName::IPAddress(base) if is_in(address, base)),
            )
        };
        self.facts
            .dns
            .iter()
            .all(|name| !dns(excluded, name) && (!limits_dns || dns(permitted, name)))
            && self.facts.ips.iter().all(|address| {
                !ips(excluded, *address) && (!limits_ips || ips(permitted, *address))
            })
    }
}

fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    certificate.basic_constraints().is_ok_and(|basic| basic.is_some_and(|basic| basic.value.ca))
}

fn is_below(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let base = base.trim_start_matches('.');
    let above = name.strip_suffix(base);
    above.is_some_and(|above| base.is_empty() || above.is_empty() || above.ends_with('.'))
}

/// An address followed by its mask.
fn is_in(address: IpAddr, base: &[u8]) -> bool {
    let (network, mask) = base.split_at(base.len() / 2);
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    ip(network).is_some()
        && octets.len() == network.len()
        && octets.iter().zip(network).zip(mask).all(|((own, net), mask)| own & mask == net & mask)
}
