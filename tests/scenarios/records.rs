//! TLS attacks: malformed or oversized ClientHellos, and floods of valid but useless records.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};

use crate::support::records::{
    ALERT, APPLICATION_DATA, Answered, CHANGE_CIPHER_SPEC, Extension, HANDSHAKE, Records, answered,
    ends, fragments, hello, needed, plain, server_name,
};
use crate::support::{Gateway, Nginx, Plan, client_config, eventually};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";

/// Processor time that a flood may cost in total, in hundredths of a second. A busy loop would use
/// all.
const SPENT_MAX: u64 = 500;

/// Checks that another client is served, and that no processor time was wasted.
fn check(gateway: &Gateway, what: &str, (began, used): (Instant, u64)) {
    let probe = Instant::now();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200, "{what}: others are served");
    let (took, spent) = (probe.elapsed(), gateway.processor_time() - used);
    println!(
        "{what}: {:?}, {spent} hundredths of a second, another client {took:?}",
        began.elapsed()
    );
    assert!(took < Duration::from_secs(10), "{what}: another client waited {took:?}");
    assert!(spent < SPENT_MAX, "{what} cost {spent} hundredths of a second");
}

#[test]
fn floods_of_useless_tls_records_end_their_connection() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    for version in [&TLS13, &TLS12] {
        let mut records = Records::open(&gateway, version);
        let host = Gateway::HOST;
        let ask = format!("GET {OPEN} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let sealed = records.seal(APPLICATION_DATA, ask.as_bytes());
        assert!(records.send(&sealed) && records.ends());
    }
    eventually("what is sealed here is read there", || gateway.access().len() == 3);
    assert!(gateway.access().iter().all(|line| line["status"] == 200));
    let memory = gateway.memory_kib();
    let renegotiation = hello(0x0303, &needed());
    type One<'a> = Box<dyn Fn(&mut Records) -> Vec<u8> + 'a>;
    let sealed = |kind: u8, content: &'static [u8]| -> One<'static> {
        Box::new(move |records| records.seal(kind, content))
    };
    let both = [&TLS13, &TLS12];
    let cases: Vec<(&str, &[&'static rustls::SupportedProtocolVersion], One<'_>)> = vec![
        ("updates of keys", &both[..1], Box::new(Records::update)),
        ("empty records", &both, sealed(APPLICATION_DATA, b"")),
        ("empty records of the handshake", &both, sealed(HANDSHAKE, b"")),
        ("warnings", &both, sealed(ALERT, &[1, 90])),
        ("warnings that mean nothing", &both, sealed(ALERT, &[1, 0xee])),
        ("changes of the cipher", &both, Box::new(|_| plain(CHANGE_CIPHER_SPEC, &[1]))),
        ("sealed changes of the cipher", &both, sealed(CHANGE_CIPHER_SPEC, &[1])),
        (
            "hellos after the handshake",
            &both,
            Box::new(|records| records.seal(HANDSHAKE, &renegotiation)),
        ),
        ("requests for a hello", &both, sealed(HANDSHAKE, &[0, 0, 0, 0])),
        ("beginnings of a message", &both, sealed(HANDSHAKE, &[24])),
        ("heartbeats", &both, sealed(24, &[1, 0x40, 0])),
        ("a kind that nobody knows", &both, sealed(99, b"x")),
        ("records that cannot be opened", &both, Box::new(|_| plain(APPLICATION_DATA, &[0; 64]))),
        ("records that are too short", &both, Box::new(|_| plain(APPLICATION_DATA, &[0]))),
    ];
    for (what, versions, one) in cases {
        for version in versions {
            let what = format!("{what} in {:?}", version.version);
            let began = (Instant::now(), gateway.processor_time());
            let mut records = Records::open(&gateway, version);
            let mut taken = 0;
            while taken < 50_000 {
                let batch: Vec<u8> = (0..50).flat_map(|_| one(&mut records)).collect();
                if !records.send(&batch) {
                    break;
                }
                taken += 50;
            }
            assert!(records.ends(), "{what}: it goes on after {taken}");
            check(&gateway, &what, began);
        }
    }
    let grown = gateway.memory_kib().saturating_sub(memory);
    println!("memory grew by {grown} KiB");
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
    eventually("both logs have the same", || nginx.seen().len() == gateway.access().len());
    eventually("nothing is open", || gateway.metric("sitegate_connections ") == 0.0);
}

#[test]
fn key_updates_cost_no_more_than_their_bytes() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let memory = gateway.memory_kib();
    let began = (Instant::now(), gateway.processor_time());
    let mut records = Records::open(&gateway, &TLS13);
    let host = Gateway::HOST;
    let head = format!("GET {OPEN} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX: ");
    let mut all = records.seal(APPLICATION_DATA, head.as_bytes());
    for _ in 0..2000 {
        all.extend(records.update());
        all.extend(records.seal(APPLICATION_DATA, b"x"));
    }
    all.extend(records.seal(APPLICATION_DATA, b"\r\n\r\n"));
    assert!(records.send(&all) && records.ends());
    eventually("the request is logged", || !gateway.access().is_empty());
    assert_eq!(gateway.access()[0]["status"], 200);
    check(&gateway, "2000 updates of keys with a byte between them", began);
    assert!(gateway.memory_kib().saturating_sub(memory) < 16 * 1024);
}

#[test]
fn an_aborted_or_flooded_handshake_ends_without_a_spin() {
    let nginx = Nginx::start();
    let limits = "[limits]\nhandshake_time = \"400ms\"";
    let gateway = Plan::to(&nginx.url()).sections(limits).start();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    let name = rustls_pki_types::ServerName::try_from(Gateway::HOST).unwrap();
    let mut session = rustls::ClientConnection::new(client_config(&gateway).into(), name).unwrap();
    let mut first = Vec::new();
    session.write_tls(&mut first).unwrap();
    let half = &first[..first.len() / 2];
    let old = fragments(&hello(0x0303, &[&needed()[..], &[server_name(b"mp01")]].concat()));
    let good_bye = plain(ALERT, &[1, 0]);
    let many = |one: Vec<u8>| one.repeat(20_000);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("one byte", vec![HANDSHAKE]),
        ("half a hello", half.to_vec()),
        ("a good-bye in the place of a hello", good_bye.clone()),
        ("a good-bye after half a record", [half, &good_bye].concat()),
        ("a good-bye after the hello", [&first[..], &good_bye].concat()),
        ("a good-bye after the hello of TLS 1.2", [&old[..], &good_bye].concat()),
        ("many good-byes", many(good_bye)),
        ("many warnings", many(plain(ALERT, &[1, 90]))),
        ("many warnings after the hello", [&first[..], &many(plain(ALERT, &[1, 90]))].concat()),
        ("changes of the cipher before the hello", many(plain(CHANGE_CIPHER_SPEC, &[1]))),
        (
            "changes of the cipher after the hello",
            [&first[..], &many(plain(CHANGE_CIPHER_SPEC, &[1]))].concat(),
        ),
        ("empty records before the hello", many(plain(HANDSHAKE, &[]))),
        ("empty records after the hello", [&first[..], &many(plain(HANDSHAKE, &[]))].concat()),
        ("early data that nobody offered", [&first[..], &many(plain(23, &[0; 32]))].concat()),
        ("hello after hello", first.repeat(50)),
        ("hello after hello of TLS 1.2", old.repeat(50)),
    ];
    for (what, bytes) in cases {
        let began = (Instant::now(), gateway.processor_time());
        let mut held: Vec<TcpStream> = Vec::new();
        for n in 0..10 {
            let mut tcp = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
            tcp.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
            // No byte is read back: only a busy loop would use the processor.
            let _ = tcp.write_all(&bytes);
            if n % 2 == 0 {
                let _ = tcp.shutdown(Shutdown::Write);
            }
            held.push(tcp);
        }
        check(&gateway, what, began);
        for tcp in &mut held {
            assert!(ends(tcp), "{what}: it is not ended");
        }
        assert!(gateway.processor_time() - began.1 < SPENT_MAX, "{what} made it spin");
    }
    eventually("both logs have the same", || nginx.seen().len() == gateway.access().len());
}

/// Returns the answer to a ClientHello: the certificate's name, the alert's number, or the end.
fn shown(port: u16, bytes: &[u8]) -> String {
    match answered(port, bytes) {
        Answered::Alert(number) => format!("alert {number}"),
        Answered::End => "end".to_owned(),
        Answered::Hello(flight) => {
            let names = ["mp01.contoso.com", "dp01.contoso.com"];
            let holds = |name: &str| flight.windows(name.len()).any(|w| w == name.as_bytes());
            names.into_iter().filter(|name| holds(name)).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn an_odd_server_name_gets_the_default_or_an_alert() {
    let nginx = Nginx::start();
    let one = Plan::to(&nginx.url()).start();
    let second = |keys: &str, gateway: &Gateway| {
        format!(
            "[[site_system]]\nname = \"dp01\"\nroles = [\"distribution-point\"]\n\
             listen = \"127.0.0.1:{}\"\nhosts = [\"dp01.contoso.com\"]\nbackend = \"{}\"\n{keys}\n",
            gateway.port,
            nginx.url()
        )
    };
    let two = |keys: &str| {
        let mut gateway = Gateway::prepare(Plan::to(&nginx.url()));
        gateway.write_config(&(gateway.config_text() + &second(keys, &gateway)));
        gateway.launch();
        gateway.wait_until_ready();
        gateway
    };
    let (none, dp01) = (two(""), two("default = true"));
    let list = |content: Vec<u8>| Some((0, content));
    let named = |name: &[u8]| Some(server_name(name));
    let (long, label) = ("a.".repeat(150) + "com", "a".repeat(64) + ".com");
    let twice = {
        let one = &server_name(b"mp01.contoso.com").1[2..];
        [&(2 * one.len() as u16).to_be_bytes()[..], one, one].concat()
    };
    // The results for a single site system, for two without a default, and for two with dp01 as
    // default.
    let (mp, dp) = ("mp01.contoso.com", "dp01.contoso.com");
    let nobody = [mp, "alert 49", dp];
    // A malformed name is an illegal parameter, and a malformed list cannot be decoded.
    let (illegal, undecodable) = (["alert 47"; 3], ["alert 50"; 3]);
    let cases: Vec<(&str, Option<Extension>, [&str; 3])> = vec![
        ("no name", None, nobody),
        ("its name", named(mp.as_bytes()), [mp; 3]),
        ("its name in capitals", named(b"MP01.Contoso.COM"), [mp; 3]),
        ("its name and a dot", named(b"mp01.contoso.com."), [mp; 3]),
        ("another's", named(dp.as_bytes()), [mp, dp, dp]),
        ("nobody's", named(b"other.contoso.com"), nobody),
        ("an address", named(b"127.0.0.1"), nobody),
        ("an address of IPv6", named(b"::1"), nobody),
        ("nothing", named(b""), undecodable),
        ("NUL within", named(b"mp01.contoso.com\0.evil.example"), illegal),
        ("NUL alone", named(b"\0"), illegal),
        ("a line feed", named(b"mp01\n.contoso.com"), illegal),
        ("what is not ASCII", named("mp\u{e9}.contoso.com".as_bytes()), illegal),
        ("what is not UTF-8", named(&[0xff, 0xfe]), illegal),
        ("303 characters", named(long.as_bytes()), illegal),
        ("a label of 64", named(label.as_bytes()), illegal),
        ("16000 characters", named(&[b'a'; 16_000]), illegal),
        ("two names", list(twice), undecodable),
        ("an empty list", list(vec![0, 0]), undecodable),
        ("a list that is cut off", list(vec![0, 40, 0, 0, 40, b'm']), undecodable),
        ("another kind of name", list(vec![0, 4, 9, 0, 1, b'm']), illegal),
    ];
    let mut faults = Vec::new();
    for (what, extension, wanted) in cases {
        let bytes = fragments(&hello(0x0303, &[needed(), Vec::from_iter(extension)].concat()));
        let came = [&one, &none, &dp01].map(|gateway| shown(gateway.port, &bytes));
        println!("{what}: {came:?}");
        if came != wanted {
            faults.push(format!("{what}: {came:?} instead of {wanted:?}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    // A ClientHello in records of one byte each is valid.
    let message = hello(0x0303, &[needed(), Vec::from_iter(named(dp.as_bytes()))].concat());
    let bytes: Vec<u8> = message.chunks(1).flat_map(|byte| plain(HANDSHAKE, byte)).collect();
    assert_eq!([&one, &none, &dp01].map(|gateway| shown(gateway.port, &bytes)), [mp, dp, dp]);
    for gateway in [&one, &none, &dp01] {
        assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    }
}

#[test]
fn a_hello_of_another_age_or_size_is_an_alert() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let with = |more: Vec<Extension>| hello(0x0303, &[needed(), more].concat());
    let unknown =
        |from: u16, count: u16| (from..from + count).map(|n| (n, vec![n as u8])).collect();
    let sslv2 = [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[5; 0x25]].concat();
    let alpn = |names: &[&[u8]]| {
        let list: Vec<u8> = names.iter().flat_map(|n| [&[n.len() as u8][..], n].concat()).collect();
        (16, [&u16::try_from(list.len()).unwrap().to_be_bytes()[..], &list].concat())
    };
    let mp = "mp01.contoso.com";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("SSL 2", sslv2, "alert 50"),
        ("SSL 3", fragments(&hello(0x0300, &[])), "alert 40"),
        ("TLS 1.0", fragments(&hello(0x0301, &needed())), "alert 70"),
        ("TLS 1.1", fragments(&hello(0x0302, &needed())), "alert 70"),
        ("TLS 1.2", fragments(&with(vec![])), mp),
        ("a version to come", fragments(&hello(0x0909, &needed())), mp),
        ("only versions to come", fragments(&with(vec![(43, vec![4, 9, 9, 8, 8])])), "alert 70"),
        ("150 extensions that nobody knows", fragments(&with(unknown(5000, 150))), mp),
        ("10,000 extensions", fragments(&with(unknown(5000, 10_000))), mp),
        (
            "an extension twice",
            fragments(&with(vec![server_name(mp.as_bytes()), server_name(mp.as_bytes())])),
            "alert 47",
        ),
        (
            "an unknown extension twice",
            fragments(&with(vec![(5000, vec![]), (5000, vec![])])),
            "alert 47",
        ),
        ("50,000 bytes", fragments(&with(vec![(5000, vec![0; 50_000])])), mp),
        ("70,000 bytes", fragments(&[&[1, 1, 0x11, 0x70][..], &[0; 70_000]].concat()), "end"),
        ("16 MiB announced", plain(HANDSHAKE, &[1, 0xff, 0xff, 0xff, 3, 3]), "end"),
        ("a record of 64 KiB announced", vec![HANDSHAKE, 3, 1, 0xff, 0xff, 1], "alert 50"),
        ("an answer for a hello", plain(HANDSHAKE, &[2, 0, 0, 2, 3, 3]), "alert 50"),
        ("protocols that nobody knows", fragments(&with(vec![alpn(&[b"spdy/3"])])), "alert 120"),
        ("h2 among them", fragments(&with(vec![alpn(&[b"spdy/3", b"h2"])])), mp),
        ("h2c", fragments(&with(vec![alpn(&[b"h2c"])])), "alert 120"),
        ("an empty protocol", fragments(&with(vec![alpn(&[b""])])), "alert 50"),
        ("no protocol", fragments(&with(vec![alpn(&[])])), "alert 50"),
    ];
    let mut faults = Vec::new();
    for (what, bytes, wanted) in cases {
        let came = shown(gateway.port, &bytes);
        println!("{what}: {came}");
        if came != wanted {
            faults.push(format!("{what}: {came} instead of {wanted}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    nginx.assert_seen(0);
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
}
