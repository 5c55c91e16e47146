//! The judge's view of a request head.

use std::net::{IpAddr, SocketAddr};

use super::certificate::ClientCertificate;
use super::framing::{Body, RequestHead};
use super::upgrade::Asks;
use crate::front::ConnInfo;

/// The input of the decision.
pub struct JudgedHead<'a, F> {
    /// The method.
    pub method: &'a str,
    /// The raw target from the client.
    pub target: &'a [u8],
    /// Host, or `:authority`.
    pub host: &'a [u8],
    /// The body that the head announces.
    pub body: Body,
    /// Whether it asks for an upgrade.
    pub asks: Asks,
    /// Whether the site system is the default, because SNI named no known host.
    pub by_default: bool,
    /// The client's address.
    pub client: IpAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Whether it came over plain HTTP.
    pub clear: bool,
    /// The judged certificate of the client; `None` if it sent none or was not asked.
    pub certificate: Option<&'a ClientCertificate<'a>>,
    /// All fields, name and value.
    pub fields: F,
}

impl<'a> JudgedHead<'a, ()> {
    /// Creates the view of a request with this head.
    pub(in crate::gateway) fn of(
        head: &'a RequestHead<'a>,
        info: &ConnInfo,
        certificate: Option<&'a ClientCertificate<'a>>,
        asks: Asks,
    ) -> JudgedHead<'a, impl Iterator<Item = (&'a str, &'a [u8])> + Clone> {
        JudgedHead {
            method: head.method,
            target: head.target,
            host: head.field("host").unwrap_or_default(),
            body: head.body,
            asks,
            by_default: info.by_default,
            client: info.peer.ip().to_canonical(),
            local: info.local,
            clear: info.clear.is_some(),
            certificate,
            fields: head.fields.iter().copied(),
        }
    }
}
