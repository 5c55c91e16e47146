//! Overload: crowds of silent, slow or disconnected clients, and invented values in requests.
//!
//! `make crowds` runs them at full size; a part of that is enough for every day.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use socket2::{Domain, Socket, Type};

use crate::support::crowd::{ask, crowd, full, many_descriptors, tcp};
use crate::support::{
    Gateway, Nginx, Plan, Wire, client_config, connect, eventually, write_pattern,
};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";

/// A client that sends requests in a loop during the overload, with the worst time it measured.
struct Probe(Arc<AtomicBool>, JoinHandle<Vec<Probed>>);

/// One probe: its total time, the time to the end of its handshake, and its start.
type Probed = (Duration, Duration, Duration);

impl Probe {
    fn start(gateway: &Gateway) -> Probe {
        let (config, port) = (client_config(gateway), gateway.port);
        Probe::by(move || {
            let began = Instant::now();
            let mut wire = Wire::open(config.clone(), port, Gateway::HOST).unwrap();
            let shaken = began.elapsed();
            wire.send(ask(OPEN, "").as_bytes());
            assert_eq!(wire.read_answer().0, 200, "somebody is not served");
            shaken
        })
    }

    /// A probe that connects to the backend directly.
    fn without(nginx: &Nginx) -> Probe {
        let port = nginx.port;
        Probe::by(move || {
            let began = Instant::now();
            let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let shaken = began.elapsed();
            tcp.write_all(ask(OPEN, "Connection: close\r\n").as_bytes()).unwrap();
            let mut answer = Vec::new();
            tcp.read_to_end(&mut answer).unwrap();
            assert!(answer.ends_with(b"cabinet"));
            shaken
        })
    }

    /// Probes with `one`, which returns the time to the end of its handshake.
    fn by(one: impl Fn() -> Duration + Send + 'static) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut took, start) = (Vec::new(), Instant::now());
            while !stopped.load(Relaxed) {
                let began = Instant::now();
                let shaken = one();
                took.push((began.elapsed(), shaken, start.elapsed()));
                // One client must not be a crowd of its own.
                std::thread::sleep(Duration::from_millis(2));
            }
            took
        });
        Probe(stop, thread)
    }

    fn stop(self) {
        self.0.store(true, Relaxed);
        let mut took = self.1.join().unwrap();
        took.sort();
        let (worst, shaken, at) = *took.last().unwrap();
        let (median, most) = (took[took.len() / 2].0, took[took.len() * 99 / 100].0);
        println!("{} probes: median {median:?}, 99 of 100 within {most:?}", took.len());
        println!(
            "the worst took {worst:?}, {shaken:?} of it to shake hands, {at:?} after the start"
        );
        assert!(worst < Duration::from_secs(10), "somebody waited {worst:?}");
    }
}

#[test]
fn crowds_of_every_kind_keep_no_client_out() {
    many_descriptors();
    // Reads a whole body before it answers.
    let waits = "location = /SMS_FSP/.sms_fsp { proxy_pass http://127.0.0.1:1; }";
    let nginx = Nginx::with("", waits);
    write_pattern(&nginx.content().join("../../CCM_Client/big.bin"), 16);
    let limits = "[limits]\nhandshake_time = \"2s\"\nidle_time = \"2s\"\nheader_time = \"2s\"\n\
                  body_grace = \"2s\"\nsend_stall = \"2s\"\n";
    let gateway = Plan::to(&nginx.url()).sections(limits).start();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    let (before, memory) = (gateway.descriptors(), gateway.memory_kib());
    let config = Arc::new(client_config(&gateway));
    let mut hello = Vec::new();
    let name = rustls_pki_types::ServerName::try_from(Gateway::HOST).unwrap();
    let mut client = rustls::ClientConnection::new(config.clone(), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    let half = &hello[..hello.len() / 2];
    let host = Gateway::HOST;
    let begun = format!("GET {OPEN} HTTP/1.1\r\nHost: {host}\r\nX: ");
    let body =
        format!("POST /SMS_FSP/.sms_fsp HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000\r\n\r\nx");
    // Has a small receive buffer, and reads nothing.
    let taking_nothing = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], gateway.port)).into()).unwrap();
        let config = (*config).clone();
        let mut wire = Wire::over(config, TcpStream::from(socket), host).unwrap();
        wire.send(ask("/CCM_Client/big.bin", "").as_bytes());
        wire
    };
    type Held = Box<dyn std::any::Any>;
    type Kind<'a> = (&'a str, usize, &'a dyn Fn() -> Held);
    let kinds: [Kind<'_>; 8] = [
        ("idle", 1500, &|| Box::new(tcp(&gateway, b""))),
        ("half a hello", 1500, &|| Box::new(tcp(&gateway, half))),
        ("garbage", 1500, &|| Box::new(tcp(&gateway, &[0xff; 600]))),
        ("silent after the handshake", 600, &|| Box::new(connect(&gateway))),
        ("gone after the handshake", 600, &|| {
            let wire = connect(&gateway);
            socket2::SockRef::from(&wire.0.sock).set_linger(Some(Duration::ZERO)).unwrap();
            Box::new(())
        }),
        ("half a head", 500, &|| {
            let mut wire = connect(&gateway);
            wire.send(begun.as_bytes());
            Box::new(wire)
        }),
        ("half a body", 500, &|| {
            let mut wire = connect(&gateway);
            wire.send(body.as_bytes());
            Box::new(wire)
        }),
        ("taking nothing", 500, &|| Box::new(taking_nothing())),
    ];
    let (probe, direct) = (Probe::start(&gateway), Probe::without(&nginx));
    let mut held: Vec<Held> = Vec::new();
    for (what, whole, open) in kinds {
        let began = Instant::now();
        held.extend((0..crowd(whole)).map(|_| open()));
        // Clients with a partial request send one more byte.
        for wire in held.iter_mut().filter_map(|held| held.downcast_mut::<Wire>()) {
            wire.send(b"x");
        }
        let open = gateway.metric("sitegate_connections ");
        println!("{} that are {what}: {:?}, {open} are open", crowd(whole), began.elapsed());
    }
    // More simultaneous handshakes than the handshake limit.
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..crowd(3000) / 8 {
                    let _ = Wire::open((*config).clone(), gateway.port, host);
                }
            });
        }
    });
    println!("a storm of {} handshakes: {:?}", crowd(3000), began.elapsed());
    println!("without the gateway, whose backend has to send all that as well:");
    direct.stop();
    println!("with it:");
    probe.stop();
    eventually("all were cut", || gateway.metric("sitegate_connections ") == 0.0);
    // Idle backend connections stay in the pool.
    eventually("their descriptors are free", || {
        gateway.descriptors() <= before + 8 || {
            println!("{} descriptors, {before} before", gateway.descriptors());
            false
        }
    });
    // Freed memory returns to the system gradually, as requests arrive.
    eventually("its memory is free", || {
        assert_eq!(gateway.curl(OPEN, &[]).status, 200);
        gateway.memory_kib().saturating_sub(memory) < 64 * 1024 && {
            let (now, peak) = (gateway.memory_kib(), gateway.memory_peak_kib());
            println!("{memory} KiB before, {peak} at most, {now} after");
            true
        }
    });
    drop(held);
}

#[test]
fn those_who_say_nothing_take_no_turn_from_those_who_do() {
    let nginx = Nginx::start();
    let limits = "[limits]\nhandshakes = 4\nhandshake_time = \"5m\"";
    let gateway = Plan::to(&nginx.url()).sections(limits).start();
    let name = rustls_pki_types::ServerName::try_from(Gateway::HOST).unwrap();
    let mut client = rustls::ClientConnection::new(client_config(&gateway).into(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    // The last kind counts toward the handshake limit, but not while it sends nothing.
    for said in [&[][..], &hello[..1], &hello[..3], &hello[..hello.len() - 1], &hello[..]] {
        let held: Vec<TcpStream> = (0..12).map(|_| tcp(&gateway, said)).collect();
        let began = Instant::now();
        assert_eq!(gateway.curl(OPEN, &["--max-time", "20"]).status, 200, "{}", said.len());
        println!("beside twelve that said {} bytes: {:?}", said.len(), began.elapsed());
        drop(held);
    }
}

/// A token of an unknown issuer, with a unique key id.
fn key_named(n: usize) -> String {
    let header = format!("{{\"alg\":\"RS256\",\"kid\":\"key-{n}\"}}");
    format!("{}.e30.e30", BASE64_URL_SAFE_NO_PAD.encode(header))
}

/// Sets a flag on drop.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn client_input_creates_no_metric_series() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let request = |host: &str, path: &str, token: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let mut wire = connect(&gateway);
    let mut send = |text: String| {
        wire.send(text.as_bytes());
        let (status, _) = wire.read_answer();
        if !matches!(status, 401 | 403 | 404) {
            wire = connect(&gateway);
        }
    };
    let own = Gateway::HOST;
    let made_up = |n: usize| {
        [
            request(&format!("host{n}.example"), OPEN, "x"),
            request(own, &format!("/made/up/{n}"), "x"),
            request(own, "/SMS_MP/.sms_pol", &key_named(n)),
        ]
    };
    // One-time series exist after the first few requests, which are counted a moment after their
    // responses.
    gateway.signal("HUP");
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    eventually("its backend is known", || gateway.metric("sitegate_backend_up{") == 1.0);
    (0..10).flat_map(made_up).for_each(&mut send);
    eventually("they are counted", || gateway.metric("sitegate_denials_total{") == 30.0);
    let before = gateway.series();
    let (port, stop) = (gateway.metrics, AtomicBool::new(false));
    let began = Instant::now();
    let scraped = std::thread::scope(|scope| {
        // Stops the scrapers even if this test fails: otherwise they would run for ever.
        let asking = Until(&stop);
        // Four scrapers, each in a loop.
        let scraping = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut scrapes = 0_u32;
                while !stop.load(Relaxed) {
                    let (status, text) = gateway.get(port, "/metrics").unwrap();
                    assert_eq!(status, 200);
                    assert!(text.contains("sitegate_connections "), "{text}");
                    scrapes += 1;
                }
                scrapes
            })
        });
        for n in 10..if full() { 10_000 } else { 1000 } {
            made_up(n).into_iter().for_each(&mut send);
            if n % 100 == 0 {
                gateway.signal("HUP");
                assert_eq!(gateway.series(), before, "after {n} of each");
                assert_eq!(gateway.curl(OPEN, &[]).status, 200, "others are served");
            }
        }
        drop(asking);
        scraping.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
    });
    let rate = f64::from(scraped) / began.elapsed().as_secs_f64();
    println!("{scraped} scrapes, {rate:.0} in a second");
    assert!(rate > 10.0, "{rate} scrapes in a second");
    eventually("the reloads are over", || gateway.series() == before);
}
