//! TLS versions, ciphers and session resumption.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use crate::support::{Gateway, Nginx, Plan, Wire, client_config, connect, eventually};
use sitegate_forge::{Order, Pki};

const ASK: &str = "GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n";

#[test]
fn tls_1_3_with_the_hybrid_key_exchange_is_preferred() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let wire = connect(&gateway);
    assert_eq!(wire.0.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = wire.0.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let old = gateway.curl("/CCM_Client/ccmsetup.cab", &["--tls-max", "1.2"]);
    assert_eq!(old.status, 200);
    for version in ["-tls1", "-tls1_1"] {
        let out = Command::new("openssl")
            .args(["s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect"])
            .arg(format!("127.0.0.1:{}", gateway.port))
            .output()
            .unwrap();
        assert!(!out.status.success(), "{version} must be refused");
    }
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200, "the port goes on");
}

#[test]
fn http_2_is_chosen_where_it_is_offered_and_can_be_switched_off() {
    let nginx = Nginx::start();
    for (keys, protocol) in [("", Some(&b"h2"[..])), ("http2 = false", Some(b"http/1.1"))] {
        let gateway = Plan::to(&nginx.url()).site_system(keys).start();
        let mut config = client_config(&gateway);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let wire = Wire::open(config, gateway.port, Gateway::HOST).unwrap();
        assert_eq!(wire.0.conn.alpn_protocol(), protocol);
        assert_eq!(connect(&gateway).0.conn.alpn_protocol(), None, "no ALPN is HTTP/1.1");
    }
}

#[test]
fn plain_http_and_garbage_on_a_tls_port_reach_no_backend() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    for bytes in [
        &b"GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\x16\x03\x01\xff\xff",
        b"\x80\x2e\x01\x00\x02",
        &[0; 4096],
    ] {
        let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        tcp.set_read_timeout(Some(std::time::Duration::from_secs(15))).unwrap();
        let _ = tcp.write_all(bytes);
        let _ = tcp.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"));
    }
    nginx.assert_seen(0);
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
}

fn two_site_systems(nginx: &Nginx, second: &str) -> Gateway {
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()).after(""));
    let text = gateway.config_text()
        + &format!(
            "[[site_system]]\nname = \"dp01\"\nroles = [\"distribution-point\"]\n\
             listen = \"127.0.0.1:{}\"\nhosts = [\"dp01.contoso.com\"]\nbackend = \"{}\"\n{second}\n",
            gateway.port,
            nginx.url()
        );
    gateway.write_config(&text);
    gateway.launch();
    gateway.wait_until_ready();
    gateway
}

#[test]
fn the_server_name_picks_the_site_system_and_host_must_agree() {
    let nginx = Nginx::start();
    let gateway = two_site_systems(&nginx, "");
    let config = || client_config(&gateway);
    for (name, host, status) in [
        ("mp01.contoso.com", "mp01.contoso.com", 200),
        ("mp01.contoso.com", "dp01.contoso.com", 421),
        ("mp01.contoso.com", "MP01.CONTOSO.COM:443", 200),
        ("dp01.contoso.com", "mp01.contoso.com", 421),
        ("dp01.contoso.com", "dp01.contoso.com", 403),
        ("mp01.contoso.com", "mp01", 421),
    ] {
        let mut wire = Wire::open(config(), gateway.port, name).unwrap();
        let leaf = wire.leaf();
        let shown = x509_parser::parse_x509_certificate(&leaf).unwrap().1.subject().to_string();
        assert!(shown.contains(name), "{name} is shown {shown}");
        let ask = format!("GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: {host}\r\n\r\n");
        wire.send(ask.as_bytes());
        assert_eq!(wire.read_answer().0, status, "{name} asked for {host}");
    }
    // With several site systems and no default, an unknown name and a missing name are refused.
    assert!(Wire::open(config(), gateway.port, "other.contoso.com").is_err());
    let mut nameless = client_config(&gateway);
    nameless.enable_sni = false;
    assert!(Wire::open(nameless, gateway.port, "mp01.contoso.com").is_err());
    eventually("both are counted", || {
        gateway.metric("sitegate_connection_ends_total{reason=\"name_unknown\"}") == 2.0
    });

    let gateway = two_site_systems(&nginx, "default = true");
    let mut nameless = client_config(&gateway);
    nameless.enable_sni = false;
    let wire = Wire::open(nameless, gateway.port, "dp01.contoso.com").unwrap();
    let leaf = wire.leaf();
    let shown = x509_parser::parse_x509_certificate(&leaf).unwrap().1.subject().to_string();
    assert!(shown.contains("dp01.contoso.com"), "{shown}");
}

#[test]
fn clients_without_sni_reach_the_only_site_system() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let mut nameless = client_config(&gateway);
    nameless.enable_sni = false;
    for (host, status) in [
        ("mp01.contoso.com", 200),
        ("mp01", 200),
        ("127.0.0.1", 200),
        ("10.0.0.1", 421),
        ("x", 421),
    ] {
        let mut wire = Wire::open(nameless.clone(), gateway.port, Gateway::HOST).unwrap();
        let ask = format!("GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: {host}\r\n\r\n");
        wire.send(ask.as_bytes());
        assert_eq!(wire.read_answer().0, status, "{host}");
    }
}

#[test]
fn a_ticket_resumes_only_into_the_certificate_that_gave_it() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let now = sitegate::clock::Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    std::fs::write(gateway.path("pki/ca.crt"), pki.root()).unwrap();
    let mut config = client_config(&gateway);
    config.resumption = Resumption::in_memory_sessions(64);
    let config = Arc::new(config);
    let kind = || {
        let name = Gateway::HOST.try_into().unwrap();
        let session = rustls::ClientConnection::new(config.clone(), name).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        let mut wire = Wire(rustls::StreamOwned::new(session, tcp));
        wire.send(ASK.as_bytes());
        assert_eq!(wire.read_answer().0, 200);
        wire.0.conn.handshake_kind().unwrap()
    };
    assert_eq!(kind(), HandshakeKind::Full);
    assert_eq!(kind(), HandshakeKind::Resumed);
    let leaf = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    gateway.write_pki(&leaf.chain, &leaf.key, pki.root());
    eventually("the PKI certificate is served", || {
        gateway.status()["site_systems"][0]["certificate"]["source"] == "pki"
    });
    assert_eq!(kind(), HandshakeKind::Full, "a ticket of the old configuration is worth nothing");
    assert_eq!(kind(), HandshakeKind::Resumed);
}

#[test]
fn early_data_is_not_offered() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let mut config = client_config(&gateway);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let name = Gateway::HOST.try_into().unwrap();
        let mut session = rustls::ClientConnection::new(config.clone(), name).unwrap();
        assert!(session.early_data().is_none());
        let tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        let mut wire = Wire(rustls::StreamOwned::new(session, tcp));
        wire.send(ASK.as_bytes());
        assert_eq!(wire.read_answer().0, 200);
    }
}

#[test]
fn a_hello_in_single_bytes_is_no_trouble() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let name = Gateway::HOST.try_into().unwrap();
    let mut session =
        rustls::ClientConnection::new(Arc::new(client_config(&gateway)), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    tcp.set_nodelay(true).unwrap();
    for byte in hello.chunks(1) {
        tcp.write_all(byte).unwrap();
    }
    let mut wire = Wire(rustls::StreamOwned::new(session, tcp));
    wire.send(ASK.as_bytes());
    assert_eq!(wire.read_answer().0, 200);
}
