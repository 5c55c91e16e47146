//! Crowds of clients.

use std::io::Write;
use std::net::TcpStream;

use super::Gateway;

/// Checks whether crowds have their full size; a part of that is enough for every day.
pub fn full() -> bool {
    std::env::var_os("SITEGATE_CROWD").is_some()
}

pub fn crowd(whole: usize) -> usize {
    if full() { whole } else { whole / 5 }
}

/// Raises the descriptor limit to its maximum: each client needs one.
pub fn many_descriptors() {
    sitegate::os::raise_descriptors().unwrap();
}

/// A GET without a token.
pub fn ask(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", Gateway::HOST)
}

/// A connection without TLS, with these bytes sent.
pub fn tcp(gateway: &Gateway, bytes: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    // A connection that was refused at once accepts nothing.
    let _ = tcp.write_all(bytes);
    tcp
}
