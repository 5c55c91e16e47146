//! The tools of the scenarios: a gateway process, an nginx behind it, curl and bare TLS in front of
//! it. All files lie in a temporary folder, which is removed with the test.

mod apache;
mod browser;
pub mod crowd;
mod entra;
mod gateway;
pub mod http2;
mod issuer;
mod liar;
mod nginx;
mod postgres;
mod prometheus;
pub mod records;
mod scribe;
pub mod servers;
mod wire;

pub use apache::Apache;
pub use browser::Browser;
pub use entra::Entra;
pub use gateway::{Answer, BINARY, Gateway, Plan, lab, write_pair};
pub use http2::{Got, Http2};
pub use issuer::{Idp, Signer, key_set, ok};
pub use liar::{CARRIERS, Carrier, Liar, Part, Then, certified};
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use prometheus::Prometheus;
pub use scribe::Scribe;
pub use wire::{Wire, client_config, client_config_by, connect, head_of, status_of};

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A device that exists nowhere.
pub const DEVICE: &str = "GUID:11111111-2222-3333-4444-555555555555";

/// Returns a free port.
pub fn free_port() -> u16 {
    // Below the system's ephemeral ports, unique in this process, and far from those of the other
    // tests, which have their own processes.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id() * 16 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(12_000 + n % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The folder with node's foreign client libraries.
pub fn node_modules() -> String {
    let cache = std::env::var("XDG_CACHE_HOME")
        .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap_or_default()));
    let modules = format!("{cache}/sitegate/tools/node/node_modules");
    assert!(std::path::Path::new(&modules).exists(), "no {modules}: run 'make client-libraries'");
    modules
}

/// The python with the foreign client libraries.
pub fn python() -> String {
    let home = std::env::var("HOME").unwrap();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let python = format!("{cache}/sitegate/tools/python/bin/python");
    assert!(std::path::Path::new(&python).exists(), "no {python}: run 'make setup'");
    python
}

/// Waits for a condition; fails with `what` if it does not come true.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes bytes without nearby repetition: swapped, missing or doubled blocks change the digest.
pub fn write_pattern(path: &std::path::Path, mib: u32) {
    use std::io::Write;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    let mut block = vec![0_u8; 1 << 20];
    for n in 0..mib {
        let mut x = u64::from(n) + 0x9E37_79B9_7F4A_7C15;
        for word in block.chunks_exact_mut(8) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            word.copy_from_slice(&x.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.flush().unwrap();
}
