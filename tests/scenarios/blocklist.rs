//! A block applies from the next request on, on open connections too.

use std::io::Read;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use rustls_pki_types::ServerName;

use crate::support::http2::{DATA, block};
use crate::support::{
    DEVICE, Gateway, Http2, Liar, Nginx, Part, Plan, Then, Wire, client_config, connect,
    eventually, status_of,
};

const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";

/// Writes the blocklist as tools do: to a new file, then a rename.
fn write(gateway: &Gateway, text: &str) {
    std::fs::write(gateway.path("blocklist.new"), text).unwrap();
    std::fs::rename(gateway.path("blocklist.new"), gateway.path("blocklist.toml")).unwrap();
}

fn started(nginx: &Nginx, list: &str) -> Gateway {
    with_list(Plan::to(&nginx.url()), list)
}

fn with_list(plan: Plan, list: &str) -> Gateway {
    let mut gateway = Gateway::prepare(plan);
    let text = gateway.config_text();
    let named = text.replace("[admin]", "blocklist = \"blocklist.toml\"\n[admin]");
    gateway.write_config(&named);
    write(&gateway, list);
    gateway.launch();
    gateway.wait_until_ready();
    gateway
}

fn ask(token: &str) -> Vec<u8> {
    let host = Gateway::HOST;
    format!("GET {POLICY} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n").into()
}

/// Opens an HTTP/2 connection.
async fn h2_connection(gateway: &Gateway) -> SendRequest<Bytes> {
    let mut config = client_config(gateway);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    let name = ServerName::try_from(Gateway::HOST).unwrap();
    let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let (send, connection) =
        h2::client::handshake(tls.connect(name, tcp).await.unwrap()).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap() });
    send.ready().await.unwrap()
}

async fn h2_status(send: &mut SendRequest<Bytes>, token: &str) -> u16 {
    let request = http::Request::get(format!("https://{}{POLICY}", Gateway::HOST))
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap();
    let (answer, _) = send.send_request(request, true).unwrap();
    answer.await.unwrap().status().as_u16()
}

#[test]
fn a_block_applies_to_the_next_request_on_open_connections() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "");
    let (token, other) = (gateway.token(), gateway.issue(&["--user", "anna@contoso.com"]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wire = connect(&gateway);
    runtime.block_on(async {
        let mut h2 = h2_connection(&gateway).await;
        wire.send(&ask(&token));
        assert_eq!((wire.read_answer().0, h2_status(&mut h2, &token).await), (200, 200));

        write(&gateway, &format!("[[block]]\ndevice = \"{}\"\n", DEVICE.to_lowercase()));
        let renamed = Instant::now();
        while h2_status(&mut h2, &token).await != 403 {
            assert!(renamed.elapsed() < Duration::from_secs(20), "the block took no hold");
        }
        println!("a block took hold after {:?} (goal: 1 s)", renamed.elapsed());
        wire.send(&ask(&token));
        assert_eq!(wire.read_answer().0, 403);
        assert_eq!(gateway.curl_as(&token, POLICY, &[]).code(), "device.blocked");
        assert_eq!(h2_status(&mut h2, &other).await, 200, "nobody else is");
        assert_eq!(gateway.metric("sitegate_blocklist_entries"), 1.0);

        write(&gateway, "");
        eventually("the block is gone", || gateway.metric("sitegate_blocklist_entries") == 0.0);
        wire.send(&ask(&token));
        assert_eq!((wire.read_answer().0, h2_status(&mut h2, &token).await), (200, 200));
    });
    let misses = gateway.metric("sitegate_token_cache_misses_total");
    assert_eq!(misses, 2.0, "a block forgets no token: each was verified once");
}

#[test]
fn a_token_is_blocked_by_id_or_issue_time() {
    let nginx = Nginx::start();
    let gateway = started(&nginx, "");
    let token = gateway.token();
    assert_eq!(gateway.curl_as(&token, POLICY, &[]).status, 200);
    eventually("it is in the log", || !gateway.access().is_empty());
    let id = gateway.access()[0]["token_id"].as_str().unwrap().to_owned();
    std::fs::write(gateway.path("token"), &token).unwrap();
    for entry in [
        format!("issuer = \"site\"\ntoken = \"{}\"", id.to_uppercase()),
        "issuer = \"site\"\nissued_before = 2900-01-01T00:00:00Z".to_owned(),
    ] {
        write(&gateway, &format!("[[block]]\n{entry}\n"));
        eventually("the token is blocked", || {
            gateway.curl_as(&token, POLICY, &[]).code() == "token.blocked"
        });
        let mut inspect = gateway.command(&["token", "inspect"]);
        let out = inspect.arg(gateway.path("token")).output().unwrap();
        let told = String::from_utf8(out.stdout).unwrap();
        assert!(told.contains("refused   token.blocked") && !told.contains("accepted"), "{told}");
        write(&gateway, "");
        eventually("it is not any more", || gateway.curl_as(&token, POLICY, &[]).status == 200);
    }
}

#[test]
fn a_broken_or_missing_list_unblocks_no_device() {
    let nginx = Nginx::start();
    let blocked = format!("[[block]]\ndevice = \"{DEVICE}\"\n");
    let gateway = started(&nginx, &blocked);
    let token = gateway.token();
    assert_eq!(gateway.curl_as(&token, POLICY, &[]).code(), "device.blocked");
    let bad = "sitegate_blocklist_last_read_successful";
    assert_eq!(gateway.metric(bad), 1.0);

    write(&gateway, &format!("{blocked}[[block]]\ndevise = \"x\"\n"));
    eventually("the broken list was read", || gateway.metric(bad) == 0.0);
    eventually("it is told", || gateway.log().contains("blocklist.toml:4:1: unknown field"));
    assert_eq!(gateway.curl_as(&token, POLICY, &[]).code(), "device.blocked");
    let out = gateway.command(&["check"]).output().unwrap();
    let told = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(78));
    assert!(told.contains("blocklist.toml:4:1: unknown field"), "{told}");

    write(&gateway, &format!("{blocked}[[block]]\nissuer = \"entro\"\ntoken = \"x\"\n"));
    let out = gateway.command(&["check"]).output().unwrap();
    let told = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(0), "{told}");
    assert!(told.contains("names an unknown token issuer: 'entro'"), "{told}");
    eventually("the list is good again", || gateway.metric(bad) == 1.0);
    eventually("the name is told", || gateway.log().contains("issuer=\"entro\""));
    std::fs::remove_file(gateway.path("blocklist.toml")).unwrap();
    eventually("the list is gone", || gateway.metric(bad) == 0.0);
    assert_eq!(gateway.curl_as(&token, POLICY, &[]).code(), "device.blocked");
    nginx.assert_seen(0);
}

#[test]
fn nothing_is_served_without_the_blocklist_that_is_configured() {
    let nginx = Nginx::start();
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()));
    let text = gateway.config_text();
    gateway.write_config(&text.replace("[admin]", "blocklist = \"blocklist.toml\"\n[admin]"));
    gateway.launch();
    assert_eq!(gateway.wait(), 78);
    assert!(gateway.log().contains("cannot be read: No such file"), "{}", gateway.log());
}

/// Responses in flight: one without end, a slow one, one that has not begun, and an upgraded
/// connection.
fn going_on(request: &str, _: usize) -> (Vec<Part>, Then) {
    let bytes = |text: &str| Part::Bytes(text.as_bytes().to_vec());
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello";
    let without_end = "HTTP/1.1 200 OK\r\n\r\n";
    let asks = |name: &str| request.lines().next().is_some_and(|line| line.contains(name));
    match () {
        () if asks("slow") => {
            let rest = [Part::Pause(Duration::from_secs(2)), bytes("world")];
            ([vec![bytes(half)], rest.to_vec()].concat(), Then::Keep)
        }
        () if asks("endless") => (vec![bytes(without_end), Part::Endless("hello")], Then::Hang),
        () if asks("poll") => (Vec::new(), Then::Hang),
        () if asks("socket") => (vec![bytes(switched)], Then::Hang),
        () => (vec![bytes(half)], Then::Hang),
    }
}

#[test]
fn a_block_ends_only_the_blocked_requests_in_flight() {
    let liar = Liar::start(going_on);
    let route = "[[site_system.route]]\npath = \"/socket/\"\nrequire = \"device\"\n\
                 websocket = true\nbody_bytes = 0\n";
    let gateway = with_list(Plan::to(&liar.url()).after(route), "");
    let (token, other) = (gateway.token(), gateway.issue(&["--user", "anna@contoso.com"]));
    let open = |path: &str, token: &str, more: &str| {
        let mut wire = connect(&gateway);
        let host = Gateway::HOST;
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        );
        wire.send(text.as_bytes());
        wire
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    // Each with the status expected when the block ends it.
    let mut ended: Vec<(&str, Wire, u16)> = [
        ("download", "/SMS_MP/.sms_pol?half", "", 200),
        ("long poll", "/SMS_MP/.sms_pol?poll", "", 403),
        ("WebSocket", "/socket/x", upgrade, 101),
    ]
    .map(|(what, path, more, status)| (what, open(path, &token, more), status))
    .into();
    let mut http2 = Http2::open(&gateway);
    let bearer = format!("Bearer {token}");
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", Gateway::HOST),
        (":path", "/SMS_MP/.sms_pol?half"),
        ("authorization", &bearer),
    ];
    http2.ask(1, &block(&fields));
    // Reads nothing of an endless response.
    let stuck = open("/SMS_MP/.sms_pol?endless", &token, "");
    let mut theirs = open("/SMS_MP/.sms_pol?slow", &other, "");
    eventually("all are under way", || liar.asked().len() == 6);
    let mut begun = Vec::new();
    for (what, wire, status) in &mut ended {
        let mut all = Vec::new();
        while *status != 403 && !all.ends_with(b"hello") {
            let mut byte = [0; 1];
            assert_eq!(wire.0.read(&mut byte).unwrap(), 1, "{what}");
            all.extend(byte);
        }
        begun.push(all);
    }
    while http2.next().unwrap().kind != DATA {}

    write(&gateway, &format!("[[block]]\ndevice = \"{DEVICE}\"\n"));
    let written = Instant::now();
    for ((what, mut wire, status), begun) in ended.into_iter().zip(begun) {
        if status == 403 {
            // No byte of the response was sent: it gets a refusal, and its connection stays open.
            assert_eq!(wire.read_answer().0, 403, "{what}");
            continue;
        }
        let all = [begun, wire.read_to_end()].concat();
        assert_eq!(status_of(&all), status, "{what}: {}", String::from_utf8_lossy(&all));
        let whole = all.ends_with(b"helloworld") || all.ends_with(b"0\r\n\r\n");
        assert!(!whole, "{what}: {}", String::from_utf8_lossy(&all));
    }
    let got = http2.outcome(1);
    assert!(!got.whole, "{got:?}");
    println!("all had ended {:?} after the block (goal: 1 s)", written.elapsed());
    eventually("what nobody takes has ended, too", || {
        let lines = gateway.access();
        lines.iter().filter(|line| line["reason"] == "device.blocked").count() == 5
    });
    drop(stuck);
    let (status, body) = theirs.read_answer();
    assert_eq!((status, &body[..]), (200, &b"helloworld"[..]), "nobody else's ended");
    let ask = gateway.curl_as(&token, POLICY, &["--http1.1"]);
    assert_eq!(ask.code(), "device.blocked");
}
