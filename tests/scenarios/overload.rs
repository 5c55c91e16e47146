//! More clients than there is room for, and a machine that has run out of something.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Nginx, Plan, client_config, connect, eventually, status_of};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";

fn tcp(gateway: &Gateway, bytes: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    // One that was refused at once takes nothing.
    let _ = tcp.write_all(bytes);
    tcp
}

#[test]
fn silent_clients_of_every_kind_keep_nobody_out_and_leave_nothing_behind() {
    let nginx = Nginx::start();
    let limits = "[limits]\nhandshake_time = \"2s\"\nidle_time = \"2s\"\nheader_time = \"2s\"\n\
                  per_address = 10000\n";
    let gateway = Plan::to(&nginx.url()).sections(limits).start();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    let (before, memory) = (gateway.descriptors(), gateway.memory_kib());
    let config = client_config(&gateway);
    let mut hello = Vec::new();
    let name = rustls_pki_types::ServerName::try_from(Gateway::HOST).unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    let half = &hello[..hello.len() / 2];
    type Kind<'a> = (&'a str, usize, &'a dyn Fn() -> Box<dyn std::any::Any>);
    let kinds: [Kind<'_>; 5] = [
        ("idle", 500, &|| Box::new(tcp(&gateway, b""))),
        ("half a hello", 500, &|| Box::new(tcp(&gateway, half))),
        ("garbage", 500, &|| Box::new(tcp(&gateway, &[0xff; 600]))),
        ("silent after its handshake", 150, &|| Box::new(connect(&gateway))),
        ("gone after its handshake", 150, &|| {
            let wire = connect(&gateway);
            socket2::SockRef::from(&wire.0.sock).set_linger(Some(Duration::ZERO)).unwrap();
            Box::new(())
        }),
    ];
    let mut held = Vec::new();
    for (what, count, open) in kinds {
        held.extend((0..count).map(|_| open()));
        let probe = Instant::now();
        assert_eq!(gateway.curl(OPEN, &[]).status, 200, "{what}");
        println!("beside {count} that are {what}: {:?}", probe.elapsed());
        assert!(probe.elapsed() < Duration::from_secs(10), "{what}");
    }
    eventually("all were cut", || gateway.metric("sitegate_connections ") == 0.0);
    eventually("their descriptors are free", || gateway.descriptors() <= before + 4);
    let grown = gateway.memory_kib().saturating_sub(memory);
    println!("memory grew by {grown} KiB");
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
    drop(held);
}

#[test]
fn without_descriptors_the_gateway_waits_and_recovers() {
    let nginx = Nginx::start();
    let limits = "[limits]\nhandshake_time = \"1500ms\"\nper_address = 10000\n";
    let gateway = Plan::to(&nginx.url()).sections(limits).start();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    gateway.limit("--nofile=128:128");
    let used = gateway.processor_time();
    let began = Instant::now();
    let held: Vec<_> = (0..400).map(|_| tcp(&gateway, b"")).collect();
    // The metrics cannot be asked while there is no descriptor; the log says it.
    eventually("connections cannot be accepted", || gateway.log().contains("could be accepted"));
    eventually("clients were cut, and the next ones taken", || {
        gateway.get(gateway.metrics, "/livez").is_some_and(|(status, _)| status == 200)
    });
    let spent = gateway.processor_time() - used;
    println!("{spent} hundredths of a second of processor time in {:?}", began.elapsed());
    assert!((spent as u128) < began.elapsed().as_millis() / 20 + 50, "it spins: {spent}");
    drop(held);
    eventually("it serves again", || gateway.curl(OPEN, &[]).status == 200);
}

#[test]
fn a_full_disk_under_the_access_log_stops_no_request() {
    let nginx = Nginx::start();
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()));
    std::os::unix::fs::symlink("/dev/full", gateway.path("access.log")).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    let ask = format!("GET {OPEN} HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    let mut wire = connect(&gateway);
    for n in 0..500 {
        wire.send(ask.as_bytes());
        assert_eq!(wire.read_answer().0, 200, "request {n}");
    }
    assert_eq!(gateway.curl(OPEN, &["--http2"]).status, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn files_that_cannot_grow_and_signals_that_mean_nothing_stop_no_request() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let before = connect(&gateway).leaf();
    // No file can grow any more, as on a disk that is full.
    gateway.limit("--fsize=0:0");
    for n in 0..20 {
        assert_eq!(gateway.curl(OPEN, &[]).status, 200, "request {n}");
    }
    for signal in ["HUP", "USR1", "USR2"] {
        gateway.signal(signal);
        assert_eq!(gateway.curl(OPEN, &[]).status, 200, "{signal}");
    }
    assert_eq!(connect(&gateway).leaf(), before);
}

#[test]
fn what_clients_make_up_makes_no_series_and_the_metrics_answer_through_reloads() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let series = || {
        let (status, text) = gateway.get(gateway.metrics, "/metrics").unwrap();
        assert_eq!(status, 200);
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let ask = |host: &str, path: &str, token: &str| {
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
    let made_up = |n: u32| {
        [
            ask(&format!("host{n}.example"), OPEN, "x"),
            ask(own, &format!("/made/up/{n}"), "x"),
            ask(own, "/SMS_MP/.sms_pol", &format!("eyJraWQiOiJ{n}.e30.e30")),
        ]
    };
    // Whatever there is once for all is there after the first few, which are counted a moment after
    // their answers.
    gateway.signal("HUP");
    (0..10).flat_map(made_up).for_each(&mut send);
    eventually("they are counted", || gateway.metric("sitegate_denials_total{") == 30.0);
    let before = series();
    for n in 10..1000 {
        made_up(n).into_iter().for_each(&mut send);
        if n % 100 == 0 {
            gateway.signal("HUP");
            assert_eq!(series(), before, "after {n} of each");
        }
    }
    assert_eq!(series(), before);
}

#[test]
fn a_download_of_two_gibibytes_passes_in_little_memory() {
    const BYTES: u64 = 2 << 30;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = vec![0; 1 << 18];
            let _ = stream.read(&mut buffer);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            for _ in 0..BYTES >> 18 {
                let _ = stream.write_all(&buffer);
            }
        }
    });
    let gateway = Plan::to(&url).start();
    let before = gateway.memory_kib();
    let mut wire = connect(&gateway);
    let ask = format!("GET {OPEN} HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    wire.send(ask.as_bytes());
    let (mut read, mut buffer) = (0, vec![0; 1 << 18]);
    while read < BYTES {
        let n = wire.0.read(&mut buffer).unwrap();
        if read == 0 {
            assert_eq!(status_of(&buffer[..n]), 200);
        }
        read += n as u64;
    }
    let grown = gateway.memory_kib().saturating_sub(before);
    println!("memory grew by {grown} KiB");
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB");
}
