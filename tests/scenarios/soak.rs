//! A gateway under load while everything around it changes, breaks and recovers.
//!
//! `make soak` does the same for minutes: SITEGATE_SOAK is the factor.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sitegate::clock::Clock;
use sitegate_forge::{Forged, Order, Pki};
use sitegate_lab::{Load, LoadPlan, SimRequest, Trust};

use crate::simulated::{self, Backend};
use crate::support::{Gateway, Nginx, Plan, Wire, connect, eventually};

const ASK: &str = "GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n";

/// The library that changes a process's clock.
pub fn faketime() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = libraries.find(|library| library.exists());
    found.expect("faketime is installed by 'make setup'").to_str().unwrap().to_owned()
}

/// The count, multiplied by SITEGATE_SOAK.
fn times(count: usize) -> usize {
    let factor = std::env::var("SITEGATE_SOAK").ok().and_then(|text| text.parse().ok());
    count * factor.unwrap_or(1)
}

/// A PKI with a few certificates for the gateway.
struct Certificates {
    pki: Pki,
    pairs: Vec<Forged>,
}

impl Certificates {
    fn new() -> Self {
        let now = Clock::system().now();
        let pki = Pki::new("Contoso", now).unwrap();
        let pair = || pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
        let pairs = (0..4).map(|_| pair()).collect();
        Certificates { pki, pairs }
    }

    /// Puts one of them in place.
    fn swap(&self, gateway: &Gateway, n: usize) {
        let pair = &self.pairs[n % self.pairs.len()];
        gateway.write_pki(&pair.chain, &pair.key, self.pki.root());
    }

    /// The same, together with another configuration; returns once both are in force.
    fn change(&self, gateway: &Gateway, text: &str, n: usize) {
        let system = || gateway.status()["site_systems"][0].clone();
        let thumbprint = || system()["certificate"]["thumbprint"].clone();
        let last = thumbprint();
        self.swap(gateway, n);
        let own = format!("path = \"/own{}/\"\nrequire = \"anonymous\"\n", n % 2);
        gateway.write_config(&format!("{text}\n[[site_system.route]]\n{own}"));
        let asked = || gateway.curl(&format!("/own{}/x", n % 2), &["-k"]);
        let in_force =
            |answer: crate::support::Answer| answer.status != 0 && answer.code() != "route.unknown";
        eventually("the reload is in force", || in_force(asked()));
        eventually("the swap is in force", || thumbprint() != last);
    }

    /// Clients that trust both the PKI and the site.
    fn load(&self, gateway: &Gateway) -> Load {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let root = std::fs::read_to_string(gateway.path("root.pem")).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let trust = Trust::new(&format!("{root}{}", self.pki.root()), provider.into()).unwrap();
        Load::start(LoadPlan {
            address: ([127, 0, 0, 1], gateway.port).into(),
            name: Gateway::HOST.to_owned(),
            trust,
            request: SimRequest::get("/CCM_Client/ccmsetup.cab"),
            keeping: 3,
            fresh: 1,
            pause: Duration::from_millis(1),
        })
        .unwrap()
    }
}

/// The resources of a process.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    memory_kib: u64,
    series: usize,
}

impl Held {
    fn by(gateway: &Gateway) -> Self {
        eventually("its connections have ended", || gateway.metric("sitegate_connections ") == 0.0);
        Held {
            descriptors: gateway.descriptors(),
            memory_kib: gateway.memory_kib(),
            series: gateway.series(),
        }
    }

    /// Checks that it holds no more than before, except allocator caches and idle backend
    /// connections.
    fn assert_is_back_at(self, before: Held) {
        println!("before {before:?}, after {self:?}");
        assert!(self.descriptors <= before.descriptors + 8, "{before:?} {self:?}");
        assert!(self.memory_kib <= before.memory_kib + 24 * 1024, "{before:?} {self:?}");
        // A reason or a class of responses may have occurred for the first time.
        assert!(self.series <= before.series + 4, "{before:?} {self:?}");
    }
}

fn still_served(wire: &mut Wire) {
    wire.send(ASK.as_bytes());
    assert_eq!(wire.read_answer().0, 200);
}

#[test]
fn swaps_and_reloads_under_load_fail_nothing() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let certificates = Certificates::new();
    let text = gateway.config_text();
    let change = |n: usize| certificates.change(&gateway, &text, n);
    let count = times(40);
    let mut idle: Vec<Wire> = (0..20).map(|_| connect(&gateway)).collect();
    idle.iter_mut().for_each(still_served);
    // The first load fills pools and caches, which stay.
    let warm = certificates.load(&gateway);
    (0..8).for_each(change);
    warm.stop();
    idle.iter_mut().for_each(still_served);
    let few = std::mem::take(&mut idle);
    drop(few);
    let before = Held::by(&gateway);
    let mut idle: Vec<Wire> = (0..20).map(|_| connect(&gateway)).collect();
    let load = certificates.load(&gateway);
    (0..count).for_each(change);
    let counts = load.stop();
    println!("{count} swaps and {count} reloads: {counts:?}");
    assert_eq!((counts.handshakes_failed, counts.requests_failed, counts.reopened), (0, 0, 0));
    assert!(counts.requests > count as u64 && counts.handshakes > 0);
    idle.iter_mut().for_each(still_served);
    drop(idle);
    Held::by(&gateway).assert_is_back_at(before);
}

#[test]
fn a_fleet_at_work_notices_no_swap_or_reload() {
    let backend = Backend::start(&["--quiet"]);
    let gateway = simulated::gateway(&backend, "backend_idle_time = \"1s\"", "");
    let certificates = Certificates::new();
    let root = std::fs::read_to_string(gateway.path("root.pem")).unwrap();
    std::fs::write(gateway.path("root.pem"), root + certificates.pki.root()).unwrap();
    let text = gateway.config_text();
    let clients = times(40).min(1_000);
    let work = |changes: usize| {
        let fleet = ["--fleet", &clients.to_string(), "--for", "2h", "--rate", "300"];
        let mut fleet = simulated::client(&gateway, &[&fleet[..], &["--format", "json"]].concat());
        let fleet = fleet.stdout(Stdio::piped()).spawn().unwrap();
        let before = gateway.metric("sitegate_requests_total");
        let done = || gateway.metric("sitegate_requests_total") - before;
        eventually("all have come", || done() > 4.0 * clients as f64);
        (0..changes).for_each(|n| certificates.change(&gateway, &text, n));
        let pid = fleet.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let told = fleet.wait_with_output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        println!("{changes} swaps and reloads, {clients} clients: {told}");
        assert_eq!((&told["clients"], &told["failed"]), (&clients.into(), &0.into()), "{told}");
    };
    // The number of idle backend connections depends on timing: wait until all are closed.
    let fresh = gateway.descriptors();
    let settled = || gateway.descriptors() <= fresh + 8;
    work(8);
    eventually("the first let its connections go", settled);
    let before = Held::by(&gateway);
    work(times(20));
    eventually("the second let its connections go", settled);
    Held::by(&gateway).assert_is_back_at(before);
}

#[test]
fn a_backend_that_comes_and_goes_is_found_again() {
    let mut nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let mut kept = connect(&gateway);
    still_served(&mut kept);
    let (descriptors, memory) = (gateway.descriptors(), gateway.memory_kib());
    for _ in 0..times(4) {
        nginx.restart(|| {
            kept.send(ASK.as_bytes());
            assert_eq!(kept.read_answer().0, 502);
            kept = connect(&gateway);
        });
        still_served(&mut kept);
    }
    assert!(gateway.descriptors() <= descriptors + 8);
    assert!(gateway.memory_kib() <= memory + 16 * 1024);
}

#[test]
fn whenever_it_is_killed_the_next_start_is_clean() {
    let nginx = Nginx::start();
    let mut gateway = Plan::to(&nginx.url()).start();
    let certificates = Certificates::new();
    let token = gateway.token();
    let leaf = std::fs::read(gateway.path("root.pem")).unwrap();
    for n in 0..times(4) {
        let load = certificates.load(&gateway);
        std::thread::scope(|scope| {
            let gateway = &gateway;
            let certificates = &certificates;
            // Swaps and reloads are in progress when it is killed.
            let changing = scope.spawn(move || {
                for m in 0..3 {
                    certificates.swap(gateway, n + m);
                    gateway.write_config(&(gateway.config_text() + &"\n".repeat(m)));
                }
            });
            // At any point from before the first of them to after the last.
            std::thread::sleep(Duration::from_micros(700 * (n as u64 % 10)));
            let pid = gateway.pid().to_string();
            let killed = Command::new("kill").args(["-KILL", &pid]).status();
            assert!(killed.unwrap().success());
            changing.join().unwrap();
        });
        gateway.kill();
        drop(load);
        gateway.launch();
        gateway.wait_until_ready();
        let root = std::fs::read(gateway.path("root.pem")).unwrap();
        assert_eq!(root, leaf, "the site's root is the one that clients have");
        let asked = gateway.curl_as(&token, "/SMS_DP_SMSPKG$/PS100001/small.txt", &["-k"]);
        assert_eq!(asked.status, 200, "{asked:?}");
        let left = leftovers(&gateway.path("state"));
        assert!(left.is_empty(), "a start leaves no half-written file: {left:?}");
    }
}

/// Returns temporary files that remain.
fn leftovers(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(leftovers(&path));
        } else if name != ".lock" && (name.starts_with('.') || name.ends_with(".tmp")) {
            found.push(name);
        }
    }
    found
}

#[test]
fn a_clock_that_jumps_denies_what_has_expired_and_stops_nothing() {
    let library = faketime();
    let nginx = Nginx::start();
    let mut plan = Plan::to(&nginx.url());
    let dir = tempfile::tempdir().unwrap();
    let offset = dir.path().join("offset");
    let jump = |text: &str| {
        let new = dir.path().join("offset.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &offset).unwrap();
    };
    jump("+0");
    plan.env = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let gateway = plan.start();
    let token = gateway.token();
    let path = "/SMS_DP_SMSPKG$/PS100001/small.txt";
    let asked = || {
        let answer = gateway.curl_as(&token, path, &["-k"]);
        (answer.status, answer.code())
    };
    let fine = (200, String::new());
    let serial = || gateway.status()["site_systems"][0]["certificate"]["thumbprint"].clone();
    let first = serial();
    for _ in 0..times(1) {
        assert_eq!(asked(), fine);
        jump("+70d");
        assert_eq!(asked(), (401, "token.expired".to_owned()), "the cache forgives nothing");
        assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &["-k"]).status, 200);
        jump("-1h");
        assert_eq!(asked(), (401, "token.not_yet_valid".to_owned()));
        jump("+0");
        assert_eq!(asked(), fine);
    }
    // A clock change is noticed within half a minute, or with the next change of a file.
    let look = || std::fs::write(gateway.path("pki/note.ocsp"), "x").unwrap();
    // After two thirds of its lifetime the certificate is renewed; the renewal is withdrawn when
    // the clock goes back.
    jump("+70d");
    look();
    eventually("the certificate is renewed", || serial() != first);
    jump("+0");
    look();
    eventually("a certificate that is valid now is served", || {
        gateway.curl_as(&token, path, &[]).status == 200
    });
}
