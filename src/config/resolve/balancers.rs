//! Resolves `site_system.proxy_protocol`: the networks of load balancers.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::{ConfigError, ResolveScope};
use crate::config::code::ConfigCode;
use crate::config::resolved::SiteSystem;
use crate::config::spanned::Spanned;

const HINT: &str = "for example proxy_protocol = [\"10.0.0.0/24\", \"10.0.1.7\"]";

/// The networks, sorted and without duplicates.
pub(super) fn resolve(
    typed: Option<Spanned<Vec<Spanned<String>>>>,
    scope: &mut ResolveScope<'_>,
) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for network in typed.map(|networks| networks.into_inner()).unwrap_or_default() {
        let Some(read) = self::network(&network, HINT, scope) else { continue };
        if read.prefix_len() == 0 {
            scope.errors.push(
                ConfigError::at(
                    network.span(),
                    "any host may claim to be a load balancer and set client addresses",
                )
                .code(ConfigCode::Open)
                .hint("list the addresses of your load balancers alone")
                .warning(),
            );
        }
        networks.push(read);
    }
    networks.sort();
    networks.dedup();
    networks
}

/// A network in CIDR notation, or a single address.
pub(super) fn network(
    typed: &Spanned<String>,
    hint: &str,
    scope: &mut ResolveScope<'_>,
) -> Option<IpNet> {
    let text = typed.get_ref();
    let read = text.parse::<IpNet>().ok();
    let Some(read) = read.or_else(|| Some(text.parse::<IpAddr>().ok()?.into())) else {
        scope.hinted(typed.span(), format!("'{text}' is not a network"), hint);
        return None;
    };
    if read.trunc() != read {
        let message = format!("'{text}' is an address in the network {}", read.trunc());
        scope.hinted(typed.span(), message, "write the network, or the address alone");
    }
    Some(read)
}

/// Site systems on one address must agree on the load balancers: the PROXY header is read before
/// the SNI that selects the site system.
pub(super) fn agree(
    other: &SiteSystem,
    system: &SiteSystem,
    span: &Range<usize>,
    scope: &mut ResolveScope<'_>,
) {
    if other.balancers != system.balancers {
        let message = format!(
            "'{}' and '{}' share {} and differ in proxy_protocol",
            other.name, system.name, system.listen
        );
        scope.conflict(span.clone(), message, "write the same networks in both");
    }
}
