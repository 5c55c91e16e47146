//! Request targets: an accepted one has one reading, and parsing it again does not change it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sitegate::route::{CanonicalPath, Role, RouteTable, plainly_spelled, preset};
use std::sync::LazyLock;

static TABLE: LazyLock<RouteTable> =
    LazyLock::new(|| RouteTable::new(Vec::new(), Role::ALL.into_iter().flat_map(preset).collect()));

fuzz_target!(|target: &[u8]| {
    let Ok(path) = CanonicalPath::parse(target, 16 * 1024) else { return };
    let raw = target.split(|b| *b == b'?').next().unwrap_or_default();
    assert!(raw.first() == Some(&b'/') && raw.iter().all(|b| (0x21..0x7f).contains(b)));
    let sent = plainly_spelled(target);
    assert_eq!(CanonicalPath::parse(&sent, 16 * 1024).as_ref(), Ok(&path), "what is sent was judged");
    let upper = target.to_ascii_uppercase();
    if let Ok(again) = CanonicalPath::parse(&upper, 16 * 1024) {
        assert_eq!(TABLE.place(&path), TABLE.place(&again), "case decides nothing");
    }
});
