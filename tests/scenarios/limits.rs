//! Limits on slow, silent and greedy clients, and the drain of a gateway.

use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{
    Gateway, Liar, Nginx, Part, Plan, Then, Wire, client_config, connect, eventually, status_of,
    write_pattern,
};

const QUICK: &str = r#"[limits]
handshake_time = "400ms"
header_time = "600ms"
idle_time = "800ms"
body_grace = "500ms"
"#;

#[test]
fn a_client_that_drips_its_head_is_cut_at_the_deadline() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).sections(QUICK).start();
    let began = Instant::now();
    let mut wire = connect(&gateway);
    wire.send(b"G");
    let text = format!("ET /CCM_Client/x HTTP/1.1\r\nHost: {}\r\n", Gateway::HOST);
    for byte in text.as_bytes().chunks(1).take(40) {
        std::thread::sleep(Duration::from_millis(50));
        wire.send(byte);
    }
    let answer = wire.read_to_end();
    println!("a dripping client was cut after {:?}", began.elapsed());
    assert!(answer.is_empty() || status_of(&answer) == 408, "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    eventually("it is counted", || {
        gateway.metric("sitegate_denials_total{reason=\"limit.time\"") == 1.0
    });

    let mut wire = connect(&gateway);
    let ask = format!("GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    wire.send(ask.as_bytes());
    assert_eq!(wire.read_answer().0, 200);
    let idle = Instant::now();
    assert!(wire.is_closed());
    println!("an idle connection was closed after {:?}", idle.elapsed());
    assert!(
        idle.elapsed() >= Duration::from_millis(700) && idle.elapsed() < Duration::from_secs(8)
    );
    eventually("no connection is left", || gateway.metric("sitegate_connections ") == 0.0);
}

#[test]
fn a_partial_head_behind_a_request_has_the_header_timeout() {
    let nginx = Nginx::start();
    let limits = "[limits]\nheader_time = \"500ms\"\nidle_time = \"60s\"\n";
    let gateway = Plan::to(&nginx.url()).sections(limits).start();
    let mut wire = connect(&gateway);
    let ask = format!("GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    wire.send(format!("{ask}GET /CCM_Cl").as_bytes());
    assert_eq!(wire.read_answer().0, 200);
    assert_eq!(status_of(&wire.read_to_end()), 408);
    let mut wire = connect(&gateway);
    wire.send(format!("{ask}GET /CCM_Cl").as_bytes());
    assert_eq!(wire.read_answer().0, 200);
    wire.send(format!("ient/ccmsetup.cab HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST).as_bytes());
    assert_eq!(wire.read_answer().0, 200);
}

#[test]
fn an_idle_http_2_connection_is_closed_on_time_too() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).sections(QUICK).start();
    let mut config = client_config(&gateway);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut wire = Wire::open(config, gateway.port, Gateway::HOST).unwrap();
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
    let idle = Instant::now();
    wire.read_to_end();
    println!("an idle HTTP/2 connection was closed after {:?}", idle.elapsed());
    assert!(
        idle.elapsed() >= Duration::from_millis(700) && idle.elapsed() < Duration::from_secs(8)
    );
}

#[test]
fn a_silent_handshake_and_a_stalled_body_are_cut() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).sections(QUICK).start();
    let silent: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(("127.0.0.1", gateway.port)).unwrap()).collect();
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200, "others are served");
    eventually("silent clients are cut", || gateway.metric("sitegate_connections ") == 0.0);
    assert_eq!(gateway.metric("sitegate_connection_ends_total{reason=\"handshake_time\"}"), 200.0);
    drop(silent);
    let echo = crate::backends::Echo::start();
    let gateway = Plan::to(&echo.url()).unguarded().sections(QUICK).start();
    let token = gateway.token();
    let mut wire = connect(&gateway);
    let text = format!(
        "CCM_POST /ccm_system_tokenauth/request HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\nhalf",
        Gateway::HOST
    );
    wire.send(text.as_bytes());
    let answer = wire.read_to_end();
    assert_eq!(status_of(&answer), 408, "{}", String::from_utf8_lossy(&answer));
    assert!(String::from_utf8_lossy(&answer).contains("limit.rate"));
}

#[test]
fn connections_over_the_limit_are_refused_at_once() {
    let nginx = Nginx::start();
    let limits = "[limits]\nconnections = 8\nper_address = 6\n";
    let gateway = Plan::to(&nginx.url()).sections(limits).start();
    let mut held: Vec<_> = (0..6).map(|_| connect(&gateway)).collect();
    let mut seventh = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    seventh.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let began = Instant::now();
    let mut byte = [0; 1];
    assert!(matches!(std::io::Read::read(&mut seventh, &mut byte), Ok(0) | Err(_)));
    assert!(began.elapsed() < Duration::from_secs(5));
    let ask = format!("GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    for wire in &mut held {
        wire.send(ask.as_bytes());
        assert_eq!(wire.read_answer().0, 200);
    }
    drop(held);
    eventually("there is room again", || {
        gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status == 200
    });
}

#[test]
fn a_download_in_flight_completes_after_sigterm() {
    let nginx = Nginx::start();
    write_pattern(&nginx.content().join("big.wim"), 1024);
    let mut gateway = Plan::to(&nginx.url()).start();
    let token = gateway.token();
    let mut idle = connect(&gateway);
    let ask = format!("GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    idle.send(ask.as_bytes());
    assert_eq!(idle.read_answer().0, 200);
    let header = format!("Authorization: Bearer {token}");
    let url = gateway.url("/SMS_DP_SMSPKG$/PS100001/big.wim");
    let mut curl = gateway
        .curl_command(&["--http1.1", "--fail", "--limit-rate", "300M", "-H", &header, &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut body = curl.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut read = std::io::Read::read(&mut body, &mut buffer).unwrap();
    assert!(read > 0);
    gateway.signal("TERM");
    eventually("it is not ready any more", || match gateway.get(gateway.metrics, "/readyz") {
        Some((status, text)) => status == 503 && text.contains("draining"),
        None => false,
    });
    assert!(idle.is_closed());
    eventually("no new connections are taken", || {
        TcpStream::connect(("127.0.0.1", gateway.port)).is_err()
    });
    loop {
        match std::io::Read::read(&mut body, &mut buffer).unwrap() {
            0 => break,
            n => read += n,
        }
    }
    assert!(curl.wait().unwrap().success());
    assert_eq!(read, 1 << 30);
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn requests_in_flight_at_the_end_of_the_drain_are_cut_off() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut gateway = Plan::to(&url).sections("[limits]\ndrain_time = \"500ms\"").start();
    let mut wire = connect(&gateway);
    let ask = format!("GET /CCM_Client/x HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    wire.send(ask.as_bytes());
    let (held, _) = silent.accept().unwrap();
    let began = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    println!("it ended {:?} after SIGTERM", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(held);
}

#[test]
fn a_stalled_http_2_stream_ends_without_its_connection() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).sections("[limits]\nsend_stall = \"1s\"").start();
    let mut config = client_config(&gateway);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut wire = Wire::open(config, gateway.port, Gateway::HOST).unwrap();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let head = [0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
        [&head[..], payload].concat()
    };
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", Gateway::HOST),
        (":path", "/CCM_Client/ccmsetup.cab"),
    ];
    let mut head = Vec::new();
    for (name, value) in fields {
        for text in [name, value] {
            // A literal field begins with its type, and each string with its length.
            head.extend((text == name).then_some(0));
            head.push(u8::try_from(text.len()).unwrap());
            head.extend(text.as_bytes());
        }
    }
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    wire.send(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    wire.send(&frame(1, 5, 1, &head));
    let mut kinds = Vec::new();
    while kinds.last() != Some(&3) {
        let mut head = [0; 9];
        std::io::Read::read_exact(&mut wire.0, &mut head)
            .expect("the stream is reset, the connection stays");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        std::io::Read::read_exact(&mut wire.0, &mut vec![0; length as usize]).unwrap();
        kinds.push(head[3]);
    }
    assert!(kinds.contains(&1), "the answer's head came: {kinds:?}");
}

#[test]
fn a_silent_client_of_the_metrics_is_cut_and_others_are_served() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(("127.0.0.1", gateway.metrics)).unwrap()).collect();
    assert_eq!(gateway.get(gateway.metrics, "/livez").unwrap().0, 200);
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut byte = [0; 1];
        assert!(matches!(std::io::Read::read(&mut stream, &mut byte), Ok(0)), "it is closed");
    }
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let slow = |request: &str, _| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec();
        if request.contains("hang") {
            (Vec::new(), Then::Hang)
        } else {
            // Longer than the gateway waits for a response to begin after a half-close.
            (
                vec![
                    Part::Bytes(head),
                    Part::Pause(Duration::from_millis(5500)),
                    Part::Bytes(b"late".to_vec()),
                ],
                Then::Keep,
            )
        }
    };
    let gateway = Plan::to(&Liar::start(slow).url()).start();
    let ask = |path: &str| {
        let mut wire = connect(&gateway);
        let host = Gateway::HOST;
        wire.send(format!("GET /CCM_Client/{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        wire.end();
        wire
    };
    let gone = ask("hang");
    let mut waiting = ask("slow");
    assert_eq!(waiting.read_answer(), (200, b"late".to_vec()));
    drop((gone, waiting));
    eventually("no connection is left", || gateway.metric("sitegate_connections ") == 0.0);
}
