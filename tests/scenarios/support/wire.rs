//! A bare TLS connection, to send what no proper client would.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::Gateway;

/// A TLS connection to a gateway.
pub struct Wire(pub StreamOwned<ClientConnection, TcpStream>);

/// The configuration of a client that trusts the gateway's site, and its PKI folder's root.
pub fn client_config(gateway: &Gateway) -> ClientConfig {
    client_config_by(gateway, rustls::crypto::aws_lc_rs::default_provider())
}

/// The same with another crypto provider.
pub fn client_config_by(gateway: &Gateway, provider: CryptoProvider) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for file in ["root.pem", "pki/ca.crt"] {
        let pem = std::fs::read(gateway.path(file)).unwrap_or_default();
        for der in CertificateDer::pem_slice_iter(&pem) {
            roots.add(der.unwrap()).unwrap();
        }
    }
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Connects, and does the handshake.
pub fn connect(gateway: &Gateway) -> Wire {
    Wire::open(client_config(gateway), gateway.port, Gateway::HOST).unwrap()
}

impl Wire {
    pub fn open(config: ClientConfig, port: u16, name: &str) -> io::Result<Wire> {
        Wire::over(config, TcpStream::connect(("127.0.0.1", port))?, name)
    }

    /// Does the handshake on an open connection.
    pub fn over(config: ClientConfig, tcp: TcpStream, name: &str) -> io::Result<Wire> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        tcp.set_write_timeout(Some(Duration::from_secs(20)))?;
        tcp.set_nodelay(true)?;
        let mut wire = Wire(StreamOwned::new(session, tcp));
        while wire.0.conn.is_handshaking() {
            wire.0.conn.complete_io(&mut wire.0.sock)?;
        }
        Ok(wire)
    }

    /// Sends bytes unchanged. The reader detects a closed peer.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).and_then(|()| self.0.flush());
    }

    /// Sends close_notify.
    pub fn end(&mut self) {
        self.0.conn.send_close_notify();
        self.0.flush().unwrap();
    }

    /// Reads until the peer closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.0.read(&mut buffer) {
                Ok(n) if n > 0 => all.extend_from_slice(&buffer[..n]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {
                    panic!("nothing came for 20 s; so far {:?}", String::from_utf8_lossy(&all))
                }
                _ => return all,
            }
        }
    }

    /// Reads a complete response with Content-Length, without waiting for the end of the
    /// connection.
    pub fn read_answer(&mut self) -> (u16, Vec<u8>) {
        let mut all = Vec::new();
        let mut byte = [0; 1];
        while !all.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => all.push(byte[0]),
                _ => return (0, all),
            }
        }
        let head = String::from_utf8_lossy(&all).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |n| n.trim().parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status_of(&all), body)
    }

    /// Checks whether the peer closes the connection within the read timeout.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0; 1];
        match self.0.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// The peer's leaf certificate.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// The status of a response's first line; 0 if there is none.
pub fn status_of(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    match text.strip_prefix("HTTP/1.") {
        Some(rest) => rest.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0),
        None => 0,
    }
}

/// The head of a response, as text.
pub fn head_of(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.split("\r\n\r\n").next().unwrap_or_default().to_owned()
}
