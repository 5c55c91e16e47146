//! The served certificate, as clients under load see it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::support::{Gateway, Nginx, Plan, Wire, eventually, write_pair};
use sitegate::clock::Clock;
use sitegate_forge::{Order, Pki, Protection, pfx};

fn trusting(pems: &[Vec<u8>]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        for der in CertificateDer::pem_slice_iter(pem) {
            roots.add(der.unwrap()).unwrap();
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

fn source(gateway: &Gateway) -> String {
    let status = gateway.status();
    status["site_systems"][0]["certificate"]["source"].as_str().unwrap_or("none").to_owned()
}

/// Clients that send requests in a loop, on persistent and on new connections.
struct Load {
    stop: Arc<AtomicBool>,
    ok: Arc<AtomicUsize>,
    failures: Arc<std::sync::Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

const ASK: &str = "GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n";

impl Load {
    fn start(config: &ClientConfig, port: u16) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let ok = Arc::new(AtomicUsize::new(0));
        let failures = Arc::new(std::sync::Mutex::new(Vec::new()));
        let threads = (0..4)
            .map(|n| {
                let (stop, ok, failures) = (stop.clone(), ok.clone(), failures.clone());
                let config = Arc::new(config.clone());
                std::thread::spawn(move || {
                    let keep = n % 2 == 0;
                    let mut wire = None;
                    while !stop.load(Ordering::Relaxed) {
                        let open = || open(config.clone(), port);
                        let result = match wire.take() {
                            Some(wire) => Ok(wire),
                            None => open(),
                        }
                        .and_then(|mut w| ask(&mut w).map(|()| w));
                        match result {
                            Ok(w) => {
                                ok.fetch_add(1, Ordering::Relaxed);
                                wire = keep.then_some(w);
                            }
                            Err(error) => failures.lock().unwrap().push(error.to_string()),
                        }
                    }
                })
            })
            .collect();
        Load { stop, ok, failures, threads }
    }

    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (self.ok.load(Ordering::Relaxed), self.failures.lock().unwrap().clone())
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn open(config: Arc<ClientConfig>, port: u16) -> std::io::Result<Tls> {
    let name = ServerName::try_from(Gateway::HOST).unwrap();
    let session = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
    let tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    tcp.set_nodelay(true)?;
    let mut tls = StreamOwned::new(session, tcp);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

fn ask(tls: &mut Tls) -> std::io::Result<()> {
    tls.write_all(ASK.as_bytes())?;
    let mut all = Vec::new();
    let mut buffer = [0; 2048];
    while !all.ends_with(b"cabinet") {
        match tls.read(&mut buffer)? {
            0 => return Err(std::io::Error::other("closed")),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
    if all.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(std::io::Error::other(String::from_utf8_lossy(&all).into_owned()))
    }
}

#[test]
fn two_hundred_certificate_swaps_under_load_fail_nothing() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let pairs: Vec<_> =
        (0..8).map(|_| pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap()).collect();
    let root = std::fs::read(gateway.path("root.pem")).unwrap();
    let config = trusting(&[root, pki.root().as_bytes().to_vec()]);
    let load = Load::start(&config, gateway.port);
    let config = Arc::new(config);
    let mut lags = Vec::new();
    for n in 0..200 {
        let pair = &pairs[n % pairs.len()];
        let wanted = CertificateDer::from_pem_slice(pair.leaf.as_bytes()).unwrap();
        gateway.write_pki(&pair.chain, &pair.key, pki.root());
        let renamed = Instant::now();
        loop {
            // The certificate is selected when the handshake begins.
            let began = renamed.elapsed();
            let tls = open(config.clone(), gateway.port).unwrap();
            if tls.conn.peer_certificates().unwrap()[0] == wanted {
                lags.push(began);
                break;
            }
            assert!(began < Duration::from_secs(10), "swap {n} was never seen");
        }
    }
    let (ok, failures) = load.end();
    lags.sort();
    println!(
        "200 swaps, {ok} requests, {} failed; from rename to the first handshake: median {:?}, worst {:?}",
        failures.len(),
        lags[100],
        lags[199]
    );
    assert!(failures.is_empty(), "{failures:?}");
    assert!(ok > 200);
    assert!(lags[100] < Duration::from_millis(100), "ten times the goal");
    assert!(gateway.metric("sitegate_certificate_swaps_total") >= 200.0);
}

#[test]
fn no_content_of_the_certificate_folder_stops_the_port() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let good = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    let folder = gateway.path("pki");
    assert_eq!(source(&gateway), "site-issued");
    gateway.write_pki(&good.chain, &good.key, pki.root());
    eventually("PKI is preferred", || source(&gateway) == "pki");

    let half = &good.chain[..good.chain.len() / 2];
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let cases: Vec<(&str, Spoil<'_>)> = vec![
        (
            "a half-written certificate",
            Box::new(|| std::fs::write(folder.join("tls.crt"), half).unwrap()),
        ),
        ("an empty certificate", Box::new(|| std::fs::write(folder.join("tls.crt"), "").unwrap())),
        ("garbage", Box::new(|| std::fs::write(folder.join("tls.crt"), [0xff; 4000]).unwrap())),
        (
            "another key",
            Box::new(|| {
                let other = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
                write_pair(&folder, &good.chain, &other.key, pki.root());
            }),
        ),
        (
            "a directory for a key",
            Box::new(|| {
                std::fs::remove_file(folder.join("tls.key")).unwrap();
                std::fs::create_dir(folder.join("tls.key")).unwrap();
            }),
        ),
        (
            "a pipe for a certificate",
            Box::new(|| {
                std::fs::remove_file(folder.join("tls.crt")).unwrap();
                let made =
                    std::process::Command::new("mkfifo").arg(folder.join("tls.crt")).status();
                assert!(made.unwrap().success());
            }),
        ),
    ];
    for (what, spoil) in cases {
        spoil();
        eventually(&format!("status tells of {what}"), || {
            let status = gateway.status();
            !status["site_systems"][0]["rejected"].as_array().unwrap().is_empty()
        });
        assert_eq!(source(&gateway), "pki", "{what}: the last good one goes on");
        assert_eq!(gateway.get(gateway.metrics, "/readyz").unwrap().0, 200);
        let config = trusting(&[pki.root().as_bytes().to_vec()]);
        assert!(Wire::open(config, gateway.port, Gateway::HOST).is_ok(), "{what}");
        gateway.write_pki_after_mess(&good.chain, &good.key, pki.root());
        eventually(&format!("{what} is mended"), || {
            let status = gateway.status();
            status["site_systems"][0]["rejected"].as_array().unwrap().is_empty()
        });
    }

    let wrong = pki.issue(&Order::fit(&["other.contoso.com"], now)).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    eventually("an emptied folder gives way to the site's own", || {
        source(&gateway) == "site-issued"
    });
    std::fs::create_dir(&folder).unwrap();
    gateway.write_pki(&wrong.chain, &wrong.key, pki.root());
    eventually("an unfit one is told of", || {
        let status = gateway.status();
        status["site_systems"][0]["rejected"][0]["reason"] == "certificate.name_mismatch"
    });
    assert_eq!(source(&gateway), "site-issued");
    assert_eq!(gateway.metric(
        "sitegate_certificate_rejected{reason=\"certificate.name_mismatch\",site_system=\"mp01\",source=\"pki\"}"), 1.0);
    gateway.write_pki(&good.chain, &good.key, pki.root());
    eventually("PKI is preferred again by itself", || source(&gateway) == "pki");
    eventually("the metrics forget what is mended", || {
        gateway.metric("sitegate_certificate_rejected") == 0.0
    });
    let served =
        "sitegate_certificate_info{reason=\"pki-fit\",site_system=\"mp01\",source=\"pki\"}";
    assert_eq!(gateway.metric(served), 1.0);
    assert_eq!(gateway.metric("sitegate_certificate_info"), 1.0);
}

#[test]
fn with_nothing_fit_the_port_is_bound_and_readyz_says_why() {
    let nginx = Nginx::start();
    let plan = Plan::to(&nginx.url());
    let mut gateway = Gateway::prepare(plan);
    let text = gateway.config_text().replace("[admin]", "certificates = \"pki-only\"\n[admin]");
    gateway.write_config(&text);
    gateway.launch();
    eventually("health answers", || gateway.get(gateway.metrics, "/livez").is_some());
    eventually("the port is bound", || TcpStream::connect(("127.0.0.1", gateway.port)).is_ok());
    let (status, reasons) = gateway.get(gateway.metrics, "/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(reasons.contains("mp01: no certificate is fit"), "{reasons}");
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let config = || trusting(&[pki.root().as_bytes().to_vec()]);
    assert!(Wire::open(config(), gateway.port, Gateway::HOST).is_err(), "handshakes are refused");
    let good = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    gateway.write_pki(&good.chain, &good.key, pki.root());
    eventually("the first fit one is live", || {
        Wire::open(config(), gateway.port, Gateway::HOST).is_ok()
    });
    assert_eq!(gateway.get(gateway.metrics, "/readyz").unwrap().0, 200);
}

#[test]
fn a_restart_keeps_the_root_and_the_leaf() {
    let nginx = Nginx::start();
    let mut gateway = Plan::to(&nginx.url()).start();
    let root = std::fs::read(gateway.path("root.pem")).unwrap();
    let before = gateway.status()["site_systems"][0]["certificate"]["thumbprint"].clone();
    gateway.signal("KILL");
    gateway.wait();
    gateway.launch();
    gateway.wait_until_ready();
    assert_eq!(std::fs::read(gateway.path("root.pem")).unwrap(), root);
    assert_eq!(gateway.status()["site_systems"][0]["certificate"]["thumbprint"], before);
    for (format, check) in [
        ("cer", vec!["x509", "-inform", "DER", "-noout", "-subject"]),
        ("p7b", vec!["pkcs7", "-inform", "DER", "-print_certs", "-noout"]),
        ("pem", vec!["x509", "-noout", "-subject"]),
    ] {
        let out = gateway.command(&["site", "export-root", "--format", format]).output().unwrap();
        let file = gateway.path("exported");
        std::fs::write(&file, &out.stdout).unwrap();
        let read = std::process::Command::new("openssl").args(check).arg("-in").arg(&file).output();
        let text = String::from_utf8(read.unwrap().stdout).unwrap();
        assert!(text.contains("SMS Issuing"), "{format}: {text}");
    }
    let show = gateway.command(&["site", "show"]).output().unwrap();
    let text = String::from_utf8(show.stdout).unwrap();
    assert!(text.contains("SMS Issuing") && text.contains("mp01"), "{text}");
}

/// Records the stapled response, and accepts the certificate.
#[derive(Debug, Default)]
struct Notes(std::sync::Mutex<Vec<u8>>);

impl rustls::client::danger::ServerCertVerifier for Notes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = ocsp_response.to_vec();
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn a_pfx_its_ocsp_response_and_their_successors_go_live() {
    let nginx = Nginx::start();
    let password = "pki_password = \"file:password\"";
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()).site_system(password));
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let dir = gateway.dir.path().to_owned();
    let write = |name: &str, bytes: &[u8]| {
        sitegate::secret::write_private(&dir.join(name), bytes).unwrap();
    };
    let put = |password: &str, protection, seconds: i64| {
        let forged = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
        let chain = format!("{}{}", forged.chain, pki.root());
        let der = pfx((&chain, &forged.key), password, protection, 2048).unwrap();
        let until = sitegate::clock::second(now.as_second() + seconds);
        let response = pki.ocsp(&forged, false, (now, until)).unwrap();
        write("password", format!("{password}\n").as_bytes());
        write("pki/mp01.ocsp", &response);
        write("pki/mp01.pfx", &der);
        (CertificateDer::from_pem_slice(forged.leaf.as_bytes()).unwrap(), response)
    };
    let first = put("first password", Protection::Modern, 3600);
    gateway.launch();
    gateway.wait_until_ready();
    let seen = || {
        let notes = Arc::new(Notes::default());
        let mut config = trusting(&[]);
        config.dangerous().set_certificate_verifier(notes.clone());
        let wire = Wire::open(config, gateway.port, Gateway::HOST).unwrap();
        let stapled = notes.0.lock().unwrap().clone();
        (CertificateDer::from(wire.leaf().to_vec()), stapled)
    };
    assert_eq!(seen(), first);
    let second = put("second password", Protection::Legacy, 3600);
    eventually("the next PFX is live, with its response", || seen() == second);
    let third = put("second password", Protection::Modern, -1);
    eventually("an expired response is left out", || seen() == (third.0.clone(), Vec::new()));
    eventually("and counted", || gateway.metric("sitegate_certificate_unstapled") == 1.0);
    assert!(!gateway.log().contains("password\""), "no password is logged");
    for secret in ["first password", "second password"] {
        assert!(!gateway.log().contains(secret) && !gateway.status().to_string().contains(secret));
    }
}
