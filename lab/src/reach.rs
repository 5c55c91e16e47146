//! How a gateway is reached: its name and port, optionally through another address.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::client::{SimClient, Trust};

/// A gateway, as clients reach it.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The server name.
    pub name: String,
    /// The port of the requested authority.
    pub port: u16,
    /// The address to connect to; by default the name is resolved.
    pub connect: Option<SocketAddr>,
    /// The trusted roots.
    pub trust: Trust,
}

impl Reach {
    /// A client of the gateway, without a connection yet.
    ///
    /// # Errors
    /// If the name does not resolve.
    pub fn client(&self) -> io::Result<SimClient> {
        self.client_of(&self.name, None)
    }

    /// A client of another host behind the same port, optionally with its own source address.
    ///
    /// # Errors
    /// If the name does not resolve.
    pub fn client_of(&self, host: &str, from: Option<IpAddr>) -> io::Result<SimClient> {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().unwrap_or(self.port)),
            None => (host, self.port),
        };
        let address = match self.connect {
            Some(address) => address,
            None => {
                let mut all = (name, port).to_socket_addrs()?;
                all.next().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?
            }
        };
        Ok(SimClient::new(address, name, &self.trust).port(port).from(from))
    }
}
