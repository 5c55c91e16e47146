//! `site_system.proxy_protocol`

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::{ConfigError, Scope};
use crate::config::code::ConfigCode;
use crate::config::resolved::SiteSystem;
use crate::config::spanned::Spanned;

const HINT: &str = "for example proxy_protocol = [\"10.0.0.0/24\", \"10.0.1.7\"]";

/// The networks, sorted, each once.
pub(super) fn resolve(
    typed: Option<Spanned<Vec<Spanned<String>>>>,
    scope: &mut Scope<'_>,
) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for network in typed.map(|networks| networks.into_inner()).unwrap_or_default() {
        let Some(read) = self::network(&network, HINT, scope) else { continue };
        if read.prefix_len() == 0 {
            scope.errors.push(
                ConfigError::at(network.span(), "everyone may say whose connection it is")
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

/// A network as it is written, or an address alone.
pub(super) fn network(typed: &Spanned<String>, hint: &str, scope: &mut Scope<'_>) -> Option<IpNet> {
    let text = typed.get_ref();
    let read = text.parse::<IpNet>().ok();
    let Some(read) = read.or_else(|| Some(text.parse::<IpAddr>().ok()?.into())) else {
        scope.hinted(typed.span(), format!("'{text}' is no network"), hint);
        return None;
    };
    if read.trunc() != read {
        let message = format!("'{text}' is an address in the network {}", read.trunc());
        scope.hinted(typed.span(), message, "write the network, or the address alone");
    }
    Some(read)
}

/// Who is a load balancer has to be known before the name that picks the site system.
pub(super) fn agree(
    other: &SiteSystem,
    system: &SiteSystem,
    span: &Range<usize>,
    scope: &mut Scope<'_>,
) {
    if other.balancers != system.balancers {
        let message = format!(
            "'{}' and '{}' share {} and differ in proxy_protocol",
            other.name, system.name, system.listen
        );
        scope.conflict(span.clone(), message, "write the same networks in both");
    }
}
