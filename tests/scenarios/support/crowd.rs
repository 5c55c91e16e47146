//! Clients in numbers.

use std::io::Write;
use std::net::TcpStream;

use super::Gateway;

/// Whether crowds are as large as they are meant to be; a part of that is enough for every day.
pub fn full() -> bool {
    std::env::var_os("SITEGATE_CROWD").is_some()
}

pub fn crowd(whole: usize) -> usize {
    if full() { whole } else { whole / 5 }
}

/// As many descriptors as this process may have: each client is one.
pub fn many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// A GET without a token.
pub fn ask(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", Gateway::HOST)
}

/// A connection without TLS, and something said on it.
pub fn tcp(gateway: &Gateway, bytes: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    // One that was refused at once takes nothing.
    let _ = tcp.write_all(bytes);
    tcp
}
