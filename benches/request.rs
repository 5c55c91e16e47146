//! The cost of a request in the pure modules, and through a whole gateway on loopback.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench that cannot be set up shall stop; criterion's macros write no docs"
)]

mod material;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use material::{HEAD, TARGET};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sitegate::app::{Options, launch};
use sitegate::clock::Clock;
use sitegate::config::{AccessFormat, LogSink};
use sitegate::log::{Access, AccessLog};
use sitegate::metrics::Metrics;
use sitegate::route::CanonicalPath;
use sitegate_lab::SimulatedBackend;

fn pure(c: &mut Criterion) {
    c.bench_function("framing: judge a head of six fields", |b| {
        b.iter(|| sitegate::gateway::judge_raw(black_box(HEAD)))
    });
    c.bench_function("path: canonical", |b| {
        b.iter(|| CanonicalPath::parse(black_box(TARGET), 16 * 1024))
    });
    let (table, path) = material::routes();
    c.bench_function("route: find among all presets", |b| {
        b.iter(|| table.find(black_box(&path), "GET").map(|r| r.body_bytes))
    });
}

/// The cost of a request's log line for the thread that answers it.
fn logged(c: &mut Criterion) {
    let now = Clock::system().now();
    let access = Access {
        time: now,
        request_id: "4bf92f3577b34da6a3ce929d0e0e4736",
        site_system: "mp01",
        connection: 4711,
        tls: "TLSv1.3",
        sni: Some("mp01.contoso.com"),
        host: Some("mp01.contoso.com"),
        method: "GET",
        path: "/SMS_MP_TokenAuth/.sms_pol",
        user_agent: Some("SMS CCM 5.0"),
        status: 200,
        decision: "allowed",
        route: Some("mp-policy-token"),
        issuer: Some("site"),
        device: Some("GUID:7C0A5E91-0000-4000-8000-000000000001"),
        purpose: Some("client"),
        token_id: Some("f33f2082-fbda-4146-bd83-d7042a34d0e5"),
        sent: 4096,
        duration_ms: 1.25,
        ..Access::unread()
    };
    for format in [AccessFormat::Json, AccessFormat::Combined, AccessFormat::W3c] {
        let sink = LogSink::File("/dev/null".into());
        let metrics = Arc::new(Metrics::new().unwrap());
        let (log, writer) = AccessLog::open(&sink, format, metrics, now).unwrap();
        let writer = writer.unwrap();
        let guard = writer.guard();
        let thread = std::thread::spawn(move || writer.run());
        c.bench_function(&format!("log: a line ({format:?})"), |b| {
            b.iter(|| log.write(black_box(&access)))
        });
        drop(guard);
        thread.join().unwrap();
    }
}

fn whole(c: &mut Criterion) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let backend = SimulatedBackend::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[site]\ncode = \"PS1\"\nstate = \"state\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n\
         [[site_system]]\nname = \"mp01\"\nroles = [\"management-point\"]\n\
         listen = \"127.0.0.1:0\"\nhosts = [\"mp01.contoso.com\"]\nbackend = \"http://{}\"\n",
        backend.address()
    );
    let path = dir.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    let loaded = sitegate::config::load(&path, Clock::system().now()).unwrap();
    let options =
        Options { path, clock: Clock::system(), provider: provider.clone(), signals: false };
    let running = launch(loaded, options).unwrap();
    let mut roots = RootCertStore::empty();
    let root = std::fs::read(dir.path().join("state/authority/root.crt")).unwrap();
    roots.add(CertificateDer::from_pem_slice(&root).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session =
        ClientConnection::new(Arc::new(config), "mp01.contoso.com".try_into().unwrap()).unwrap();
    let tcp = TcpStream::connect(running.addresses["mp01"]).unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut tls = StreamOwned::new(session, tcp);
    let ask = b"GET /SMS_MP/.sms_aut?MPLIST HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n";
    let mut group = c.benchmark_group("gateway");
    group.throughput(Throughput::Elements(1));
    group.bench_function("a small anonymous request on a kept connection", |b| {
        let mut buffer = [0; 8192];
        b.iter(|| {
            tls.write_all(ask).unwrap();
            let n = tls.read(&mut buffer).unwrap();
            assert!(buffer.starts_with(b"HTTP/1.1 200 "));
            n
        })
    });
    group.finish();
    running.stop();
    running.join().unwrap();
}

criterion_group!(benches, pure, logged, whole);
criterion_main!(benches);
