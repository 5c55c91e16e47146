//! Sessions are remembered with what their client proved of itself, and that is of any size up to
//! 64 KiB.
//!
//! What is large is not remembered: such a client shakes hands anew.

use std::sync::Arc;

use rustls::server::{ProducesTickets, StoresServerSessions};

/// A session and a chain of a few certificates.
const BYTES_MAX: usize = 16 * 1024;

/// Tickets, which their clients keep; a field of one has 64 KiB at most.
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

/// Sessions of clients without tickets, which are kept here.
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
