//! Listening sockets: one for each shard on the same address (SO_REUSEPORT), so that the kernel
//! spreads connections over the shards and none moves between threads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 4096;

/// A bound address, with a socket for each shard.
#[derive(Debug)]
pub struct Listener {
    /// The actual address.
    pub address: SocketAddr,
    pub(super) sockets: Vec<TcpListener>,
}

/// Binds `address` for this many shards.
///
/// # Errors
/// The system's error; in particular that the address is in use, even by another process that would
/// share it (two gateways on one port would each answer half of the clients).
pub fn bind(address: SocketAddr, shards: usize) -> io::Result<Listener> {
    let probe = socket(address, false)?;
    let address = match probe.local_addr()?.as_socket() {
        Some(taken) => taken,
        None => address,
    };
    drop(probe);
    let sockets = (0..shards.max(1))
        .map(|_| {
            let socket = socket(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(TcpListener::from(socket))
        })
        .collect::<io::Result<Vec<_>>>()?;
    Ok(Listener { address, sockets })
}

/// Returns an address of this machine at which a listener can be reached.
pub fn at_home(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// Returns a bound socket. Without `shared`, the bind fails if another socket listens there
/// already.
fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_refused_even_if_shareable() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        let again = bind(first.address, 2).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (bound, asked) in [
            ("0.0.0.0:443", "127.0.0.1:443"),
            ("[::]:443", "[::1]:443"),
            ("192.0.2.1:443", "192.0.2.1:443"),
        ] {
            assert_eq!(at_home(bound.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
