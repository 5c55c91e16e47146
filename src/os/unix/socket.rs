//! Sockets: local ones, an option, and errors.

use std::io;
pub use std::os::fd::AsFd as AsSocket;
use std::path::Path;

use nix::sys::socket::SetSockOpt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use rustix::io::Errno;

sockopt_impl!(
    /// The bytes that must be available before a receiver is woken.
    RcvLowat,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    usize
);

/// Sets how many bytes must be available before a receiver is woken (SO_RCVLOWAT, socket(7)).
///
/// # Errors
/// The system's error; nothing has changed then.
pub fn set_low_water(socket: &impl AsSocket, bytes: usize) -> io::Result<()> {
    Ok(RcvLowat.set(socket, &bytes)?)
}

/// A connection through a Unix socket.
pub type LocalStream = tokio::net::UnixStream;

/// Connects to a Unix socket.
///
/// # Errors
/// The system's error.
pub async fn connect_local(path: &Path) -> io::Result<LocalStream> {
    LocalStream::connect(path).await
}

/// Whether an error of a connection attempt says that this machine lacks descriptors, ports or
/// memory, so that the other side was not contacted.
pub fn is_exhausted(error: &io::Error) -> bool {
    const OWN: [Errno; 5] =
        [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    OWN.iter().any(|own| error.raw_os_error() == Some(own.raw_os_error()))
}

/// Whether an error says that this user has as many watchers of files as the system allows.
pub fn is_out_of_watches(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MFILE.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_not_the_backends_fault() {
        for (errno, own) in [
            (Errno::MFILE, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::CONNREFUSED, false),
            (Errno::HOSTUNREACH, false),
        ] {
            assert_eq!(is_exhausted(&errno.into()), own, "{errno}");
        }
    }
}
