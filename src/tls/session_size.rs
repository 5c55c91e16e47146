//! Limits the size of TLS sessions: a session includes the client's certificates, which may have up
//! to 64 KiB.
//!
//! A large session is not resumable: such a client makes a full handshake.

use std::sync::Arc;

use rustls::server::{ProducesTickets, StoresServerSessions};

/// Enough for a session and a chain of a few certificates.
const BYTES_MAX: usize = 16 * 1024;

/// Session tickets, which clients store; a ticket has at most 64 KiB.
#[derive(Debug)]
pub(super) struct SmallTickets(pub Arc<dyn ProducesTickets>);

impl ProducesTickets for SmallTickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain).filter(|_| plain.len() <= BYTES_MAX)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

/// Sessions of clients without tickets, which the server stores.
#[derive(Debug)]
pub(super) struct SmallSessions(pub Arc<dyn StoresServerSessions>);

impl StoresServerSessions for SmallSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        value.len() <= BYTES_MAX && self.0.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.take(key)
    }

    fn can_cache(&self) -> bool {
        self.0.can_cache()
    }
}
