//! Load balancers that announce clients by PROXY protocol, and other hosts that try to.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::{Gateway, Nginx, Plan, Wire, client_config, eventually};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";
const CLIENT: [u8; 4] = [192, 0, 2, 7];

/// Builds a header: version and command, and the client's address.
fn header(command: u8, source: [u8; 4]) -> Vec<u8> {
    let fixed = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11, 0, 12]].concat();
    [&fixed[..], &source, &[198, 51, 100, 1], &[0x30, 0x39, 0x01, 0xbb]].concat()
}

fn started(nginx: &Nginx, limits: &str) -> Gateway {
    let plan = Plan::to(&nginx.url()).site_system("proxy_protocol = [\"127.0.0.1\"]");
    plan.sections(limits).start()
}

/// Opens a connection from one of this machine's own addresses: .1 is the load balancer.
fn from(gateway: &Gateway, last: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    socket.bind(&source.into()).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], gateway.port));
    socket.connect(&to.into()).unwrap();
    let tcp = TcpStream::from(socket);
    tcp.set_nodelay(true).unwrap();
    tcp
}

fn shake(gateway: &Gateway, tcp: TcpStream) -> std::io::Result<Wire> {
    Wire::over(client_config(gateway), tcp, Gateway::HOST)
}

/// Opens a connection that the load balancer forwards.
fn passed_on(gateway: &Gateway, said: &[u8]) -> std::io::Result<Wire> {
    let mut tcp = from(gateway, 1);
    tcp.write_all(said).unwrap();
    shake(gateway, tcp)
}

fn ask(wire: &mut Wire, host: &str) -> u16 {
    wire.send(format!("GET {OPEN} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    wire.read_answer().0
}

fn ended(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("sitegate_connection_ends_total{{reason=\"{reason}\"}}"))
}

fn clients(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.access();
    lines.iter().map(|line| line["client"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_client_address_comes_from_the_proxy_header() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "");
    let mut wire = passed_on(&gateway, &header(0x21, CLIENT)).unwrap();
    assert_eq!(ask(&mut wire, Gateway::HOST), 200);
    let mut tcp = from(&gateway, 1);
    for byte in header(0x21, [192, 0, 2, 8]) {
        tcp.write_all(&[byte]).unwrap();
    }
    let mut wire = shake(&gateway, tcp).unwrap();
    assert_eq!(ask(&mut wire, Gateway::HOST), 200);
    // The balancer's own health check announces no client.
    let mut wire = passed_on(&gateway, &header(0x20, CLIENT)).unwrap();
    assert_eq!(ask(&mut wire, Gateway::HOST), 200);
    // The announced destination address has no effect.
    assert_eq!(ask(&mut wire, "198.51.100.1"), 421);
    nginx.assert_seen(3);
    let seen = nginx.seen();
    for (line, client) in seen.iter().zip(["192.0.2.7", "192.0.2.8", "127.0.0.1"]) {
        assert!(line.contains(&format!("xff={client} ")), "{line}");
    }
    eventually("the access log is written", || clients(&gateway).len() == 4);
    // Threads write their lines independently, in any order.
    let mut logged = clients(&gateway);
    logged.sort();
    assert_eq!(logged, ["127.0.0.1", "127.0.0.1", "192.0.2.7", "192.0.2.8"]);
}

#[test]
fn a_balancer_without_proxy_protocol_v2_is_refused() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "");
    let text = b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n".to_vec();
    let too_long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &[0x02, 0x09], &[0; 521]].concat();
    let garbage = vec![0x5a; 700];
    for (n, said) in [Vec::new(), text, too_long, garbage].iter().enumerate() {
        assert!(passed_on(&gateway, said).is_err(), "case {n}");
        eventually("it is counted", || ended(&gateway, "proxy_header") == (n + 1) as f64);
    }
    // The second of two headers is read as TLS, and is malformed.
    let two = [header(0x21, CLIENT), header(0x21, [192, 0, 2, 9])].concat();
    assert!(passed_on(&gateway, &two).is_err());
    eventually("it is counted", || ended(&gateway, "handshake_failed") == 1.0);
    // A health check that sends nothing counts as neither.
    drop(from(&gateway, 1));
    eventually("it is counted", || ended(&gateway, "handshake_closed") == 1.0);
    nginx.assert_seen(0);
}

#[test]
fn a_malformed_proxy_header_reaches_no_backend() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "[limits]\nhandshake_time = \"300ms\"");
    let said = |command: u8, family: u8, length: u16, rest: &[u8]| {
        let fixed = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family]].concat();
        [&fixed[..], &length.to_be_bytes(), rest].concat()
    };
    let addresses = &header(0x21, CLIENT)[16..];
    let more = [addresses, &[4; 508][..]].concat();
    let v6 = [&[0; 10][..], &[0xff, 0xff], &CLIENT, &[0; 16], &[0x30, 0x39, 1, 0xbb]].concat();
    let unix = vec![b'/'; 216];
    let cases: Vec<(&str, Vec<u8>, Option<&str>)> = vec![
        ("no addresses", said(0x21, 0x11, 0, &[]), None),
        ("half of them", said(0x21, 0x11, 6, &addresses[..6]), None),
        ("no ports", said(0x21, 0x11, 8, &addresses[..8]), None),
        ("one port", said(0x21, 0x11, 10, &addresses[..10]), None),
        ("a byte too few", said(0x21, 0x11, 11, &addresses[..11]), None),
        ("a length that ends within", said(0x21, 0x11, 11, addresses), None),
        ("a length that takes some of the hello", said(0x21, 0x11, 40, addresses), None),
        ("a length beyond all that comes", said(0x21, 0x11, 520, addresses), None),
        ("the greatest length", said(0x21, 0x11, 0xffff, addresses), None),
        ("a length that leaves some over", said(0x21, 0x11, 12, &more[..20]), None),
        ("addresses of IPv4 for IPv6", said(0x21, 0x21, 12, addresses), None),
        ("a unix socket", said(0x21, 0x31, 216, &unix), None),
        ("datagrams", said(0x21, 0x12, 12, addresses), None),
        ("a family that nobody knows", said(0x21, 0x41, 12, addresses), None),
        ("another version", said(0x31, 0x11, 12, addresses), None),
        ("another command", said(0x22, 0x11, 12, addresses), None),
        ("all that may follow", said(0x21, 0x11, 520, &more), Some("192.0.2.7")),
        ("IPv4 within IPv6", said(0x21, 0x21, 36, &v6), Some("192.0.2.7")),
        ("its own, with whatever follows", said(0x20, 0xff, 520, &more), Some("127.0.0.1")),
        ("nobody in particular", said(0x21, 0x00, 12, addresses), Some("127.0.0.1")),
    ];
    let mut wanted = Vec::new();
    for (what, bytes, client) in cases {
        match (passed_on(&gateway, &bytes), client) {
            (Ok(mut wire), Some(client)) => {
                assert_eq!(ask(&mut wire, Gateway::HOST), 200, "{what}");
                wanted.push(client);
            }
            (Err(_), None) => {}
            (came, _) => panic!("{what}: {}", if came.is_ok() { "it passed" } else { "refused" }),
        }
    }
    nginx.assert_seen(wanted.len());
    eventually("the access log is written", || clients(&gateway) == wanted);
    eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
}

#[test]
fn a_proxy_header_from_elsewhere_is_refused() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "");
    let mut tcp = from(&gateway, 2);
    tcp.write_all(&header(0x21, CLIENT)).unwrap();
    assert!(shake(&gateway, tcp).is_err());
    eventually("it is counted", || ended(&gateway, "handshake_failed") == 1.0);
    let mut wire = shake(&gateway, from(&gateway, 2)).unwrap();
    assert_eq!(ask(&mut wire, Gateway::HOST), 200);
    eventually("the access log is written", || clients(&gateway) == ["127.0.0.2"]);
}

#[test]
fn a_header_that_is_not_whole_in_time_ends_the_connection() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "[limits]\nhandshake_time = \"200ms\"");
    let mut tcp = from(&gateway, 1);
    tcp.write_all(&header(0x21, CLIENT)[..20]).unwrap();
    eventually("it is counted", || ended(&gateway, "handshake_time") == 1.0);
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(matches!(std::io::Read::read(&mut tcp, &mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn clients_behind_a_balancer_are_limited_individually() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "[limits]\nper_address = 2");
    let mut held: Vec<Wire> = Vec::new();
    for source in [[192, 0, 2, 1], [192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 2], [192, 0, 2, 3]] {
        held.push(passed_on(&gateway, &header(0x21, source)).unwrap());
    }
    assert!(passed_on(&gateway, &header(0x21, [192, 0, 2, 1])).is_err());
    eventually("it is counted", || ended(&gateway, "too_many_of_address") == 1.0);
    for wire in &mut held {
        assert_eq!(ask(wire, Gateway::HOST), 200);
    }
    drop(held);
    eventually("their places are free again", || {
        passed_on(&gateway, &header(0x21, [192, 0, 2, 1])).is_ok()
    });
}

#[test]
fn a_reload_changes_balancers_for_new_connections() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "");
    let mut old = passed_on(&gateway, &header(0x21, CLIENT)).unwrap();
    let text = gateway.config_text().replace("[\"127.0.0.1\"]", "[\"127.0.0.2/31\"]");
    gateway.write_config(&text);
    eventually("the new list is in force", || shake(&gateway, from(&gateway, 1)).is_ok());
    assert!(passed_on(&gateway, &header(0x21, CLIENT)).is_err());
    assert!(shake(&gateway, from(&gateway, 3)).is_err());
    assert_eq!(ask(&mut old, Gateway::HOST), 200);
    eventually("the access log is written", || clients(&gateway) == ["192.0.2.7"]);
}

#[test]
fn an_invalid_balancer_list_is_an_error_with_its_place() {
    let now = sitegate::clock::Clock::system().now();
    let system = |name: &str, list: &str| {
        format!(
            "[[site_system]]\nname = \"{name}\"\nlisten = \"127.0.0.1:1\"\nhosts = [\"{name}\"]\nbackend = \"http://127.0.0.1:80\"\nproxy_protocol = {list}\n"
        )
    };
    for (one, two, fault) in [
        ("[\"10.0.0.0/24\"]", "[]", "differ in proxy_protocol"),
        ("[\"10.0.0.0/33\"]", "[\"10.0.0.0/33\"]", "not a network"),
        ("[\"balancer\"]", "[\"balancer\"]", "not a network"),
        ("[\"10.0.0.7/24\"]", "[\"10.0.0.7/24\"]", "an address in the network 10.0.0.0/24"),
    ] {
        let text =
            format!("[site]\ncode = \"PS1\"\n{}{}", system("mp01", one), system("dp01", two));
        let base = std::path::Path::new(".");
        let errors = sitegate::config::parse(&text, "x", base, now).unwrap_err();
        assert!(errors.to_string().contains(fault), "{errors}");
    }
    let same = "[\"10.0.1.7\", \"10.0.0.0/24\"]";
    let other = "[\"10.0.0.0/24\", \"10.0.1.7/32\"]";
    let text = format!("[site]\ncode = \"PS1\"\n{}{}", system("mp01", same), system("dp01", other));
    assert!(sitegate::config::parse(&text, "x", std::path::Path::new("."), now).is_ok());
}
