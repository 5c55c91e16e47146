//! TLS record by record, to send what no proper client would: after an ordinary handshake the
//! records are sealed here; or the ClientHello itself is built here.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion,
    SupportedProtocolVersion,
};

use super::{Gateway, Wire, client_config_by};

pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const APPLICATION_DATA: u8 = 23;

/// A connection after its handshake, and its keys.
pub struct Records {
    pub tcp: TcpStream,
    sealing: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    /// The secret behind the keys of TLS 1.3; empty in TLS 1.2.
    secret: Vec<u8>,
}

/// Records the client's first secret (RFC 8446 §7.1).
#[derive(Debug, Default)]
struct Note(Mutex<Vec<u8>>);

impl rustls::KeyLog for Note {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().unwrap() = secret.to_vec();
        }
    }
}

/// The length to derive.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label without a context (RFC 8446 §7.1).
fn expand(secret: &[u8], label: &str, length: usize) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let head = [0, length as u8, label.len() as u8];
    let mut out = vec![0; length];
    let parts = [&head[..], label.as_bytes(), &[0]];
    let prk = Prk::new_less_safe(HKDF_SHA256, secret);
    prk.expand(&parts, Bytes(length)).unwrap().fill(&mut out).unwrap();
    out
}

fn key(bytes: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, bytes).unwrap())
}

impl Records {
    /// Performs a handshake with this version; HTTP/1.1 is negotiated.
    pub fn open(gateway: &Gateway, version: &'static SupportedProtocolVersion) -> Records {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| {
            suite.version() == version
                && matches!(
                    suite.suite(),
                    CipherSuite::TLS13_AES_128_GCM_SHA256
                        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                )
        });
        let mut config = client_config_by(gateway, provider);
        let note = Arc::new(Note::default());
        config.enable_secret_extraction = true;
        config.key_log = note.clone();
        let Wire(stream) = Wire::open(config, gateway.port, Gateway::HOST).unwrap();
        let (session, tcp) = (stream.conn, stream.sock);
        if version.version == ProtocolVersion::TLSv1_3 {
            let secret = note.0.lock().unwrap().clone();
            let iv = expand(&secret, "iv", 12).try_into().unwrap();
            let sealing = key(&expand(&secret, "key", 16));
            return Records { tcp, sealing, iv, sequence: 0, secret };
        }
        let ExtractedSecrets { tx: (sequence, secrets), .. } =
            session.dangerous_extract_secrets().unwrap();
        let ConnectionTrafficSecrets::Aes128Gcm { key: secret, iv } = secrets else {
            panic!("another suite was agreed on")
        };
        let (sealing, iv) = (key(secret.as_ref()), iv.as_ref().try_into().unwrap());
        Records { tcp, sealing, iv, sequence, secret: Vec::new() }
    }

    /// Seals a record of this type, as on the wire.
    pub fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        let sealed = |mut bytes: Vec<u8>, aad: &[u8]| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            self.sealing.seal_in_place_append_tag(nonce, Aad::from(aad), &mut bytes).unwrap();
            bytes
        };
        let record = if self.secret.is_empty() {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            let aad = [&self.sequence.to_be_bytes()[..], &[kind, 3, 3], &length].concat();
            let bytes = [&nonce[4..], &sealed(content.to_vec(), &aad)].concat();
            plain(kind, &bytes)
        } else {
            let inner = [content, &[kind]].concat();
            let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
            let head = [APPLICATION_DATA, 3, 3, length[0], length[1]];
            [&head[..], &sealed(inner, &head)].concat()
        };
        self.sequence += 1;
        record
    }

    /// A key update that requests one in return. Later records use the next keys.
    pub fn update(&mut self) -> Vec<u8> {
        let record = self.seal(HANDSHAKE, &[24, 0, 0, 1, 1]);
        self.secret = expand(&self.secret, "traffic upd", 32);
        self.iv = expand(&self.secret, "iv", 12).try_into().unwrap();
        self.sealing = key(&expand(&self.secret, "key", 16));
        self.sequence = 0;
        record
    }

    /// Returns whether the gateway accepted all bytes. A closed peer accepts none.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.tcp.write_all(bytes).is_ok()
    }

    /// Checks whether the connection ends within the read timeout, with or without data before.
    pub fn ends(&mut self) -> bool {
        ends(&mut self.tcp)
    }
}

/// Checks whether a connection ends within the read timeout, with or without data before.
pub fn ends(tcp: &mut TcpStream) -> bool {
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 16 * 1024];
    loop {
        match tcp.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// A plaintext record.
pub fn plain(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3, length[0], length[1]], content].concat()
}

/// An extension of a ClientHello: its number and its content.
pub type Extension = (u16, Vec<u8>);

/// A ClientHello of this version (RFC 5246 §7.4.1.2), as a handshake message. Without
/// `supported_versions` it means TLS 1.2, in which certificates are not encrypted.
pub fn hello(version: u16, extensions: &[Extension]) -> Vec<u8> {
    let mut listed = Vec::new();
    for (number, content) in extensions {
        listed.extend(number.to_be_bytes());
        listed.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        listed.extend(content);
    }
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    // No session; ECDHE_ECDSA and ECDHE_RSA with AES-128-GCM; no compression.
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    body.extend(u16::try_from(listed.len()).unwrap().to_be_bytes());
    body.extend(listed);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1, length[1], length[2], length[3]], &body[..]].concat()
}

/// The extensions that every ClientHello needs: groups, point formats and signatures.
pub fn needed() -> Vec<Extension> {
    vec![
        (10, vec![0, 4, 0, 29, 0, 23]),
        (11, vec![1, 0]),
        (13, vec![0, 8, 4, 3, 8, 4, 4, 1, 5, 3]),
        (23, Vec::new()),
    ]
}

/// The server_name extension with this name, valid or not.
pub fn server_name(name: &[u8]) -> Extension {
    let length = u16::try_from(name.len()).unwrap();
    let list = [&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name].concat();
    (0, list)
}

/// Splits a handshake message into records.
pub fn fragments(message: &[u8]) -> Vec<u8> {
    message.chunks(16 * 1024).flat_map(|part| plain(HANDSHAKE, part)).collect()
}

/// The answer to a ClientHello.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    /// An alert with this number.
    Alert(u8),
    /// A ServerHello and an unencrypted certificate, with these bytes.
    Hello(Vec<u8>),
    /// The end of the connection.
    End,
}

/// Sends bytes to a gateway's port, and reads the answer.
pub fn answered(port: u16, bytes: &[u8]) -> Answered {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    tcp.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = tcp.write_all(bytes);
    let mut all = Vec::new();
    loop {
        let mut head = [0; 5];
        match tcp.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("nothing came for 20 s")
            }
            Err(_) => return Answered::End,
        }
        let mut content = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        tcp.read_exact(&mut content).unwrap();
        match (head[0], &content[..]) {
            (ALERT, [_, number]) => return Answered::Alert(*number),
            (HANDSHAKE, _) => all.extend(content),
            _ => panic!("a record of kind {}", head[0]),
        }
        // ServerHelloDone is the last message of the flight.
        if all.ends_with(&[14, 0, 0, 0]) {
            return Answered::Hello(all);
        }
    }
}
