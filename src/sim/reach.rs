//! How a gateway is reached: by its name and port, through an address that may be another one's.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::client::{Client, Trust};

/// A gateway, as clients reach it.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The name that clients ask for.
    pub name: String,
    /// The port that clients ask for.
    pub port: u16,
    /// The address to connect to; what the name resolves to by default.
    pub connect: Option<SocketAddr>,
    /// Whom clients trust.
    pub trust: Trust,
}

impl Reach {
    /// A client of the gateway, without a connection yet.
    ///
    /// # Errors
    /// If the name does not resolve.
    pub fn client(&self) -> io::Result<Client> {
        self.client_of(&self.name, None)
    }

    /// A client of another host behind the same port, which may come from an address of its own.
    ///
    /// # Errors
    /// If the name does not resolve.
    pub fn client_of(&self, host: &str, from: Option<IpAddr>) -> io::Result<Client> {
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
        Ok(Client::new(address, name, &self.trust).port(port).from(from))
    }
}
