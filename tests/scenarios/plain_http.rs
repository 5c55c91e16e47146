//! Plain HTTP beside TLS: refused, redirected to https, or passed and counted; and the publications
//! of the site's authority.

use std::process::Command;

use crate::messages::{
    CONTENT, LOCATION, POLICY, REGISTERS, REGISTRATION, UPDATE_SF, args, asking, injected_payload,
    message, sending,
};
use crate::support::{Answer, Gateway, Plan, Scribe, eventually, free_port, status_of};

/// A gateway with plain HTTP in this mode, and its plain-HTTP port.
fn gateway(scribe: &Scribe, mode: &str, site_system: &str) -> (Gateway, u16) {
    let port = free_port();
    let plan = Plan::to(&scribe.url()).site_system(site_system).after(&format!(
        "[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"{mode}\"\n"
    ));
    (plan.start(), port)
}

/// Sends a request over plain HTTP, with the site system's host.
pub fn curl(port: u16, path: &str, args: &[&str]) -> Answer {
    let host = Gateway::HOST;
    let out = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "20", "--path-as-is", "-g", "--resolve"])
        .arg(format!("{host}:{port}:127.0.0.1"))
        .args(args)
        .arg(format!("http://{host}:{port}{path}"))
        .output()
        .unwrap();
    let end = out.stdout.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
    let head = String::from_utf8_lossy(&out.stdout[..end]).into_owned();
    Answer { status: status_of(head.as_bytes()), body: out.stdout[end..].to_vec(), head }
}

fn location(answer: &Answer) -> Option<String> {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("Location: "));
    line.map(str::to_owned)
}

/// The served certificate, as text.
fn served(port: u16) -> String {
    let shown = format!(
        "openssl s_client -connect 127.0.0.1:{port} -servername {} </dev/null 2>/dev/null \
         | openssl x509 -noout -text",
        Gateway::HOST
    );
    let out = Command::new("sh").args(["-c", &shown]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

/// The protocols over plain HTTP.
const PROTOCOLS: [&str; 2] = ["--http1.1", "--http1.0"];

#[test]
fn plain_http_is_refused_and_reaches_no_backend() {
    let scribe = Scribe::start();
    let (gateway, port) = gateway(&scribe, "refuse", "");
    let token = gateway.token();
    for protocol in PROTOCOLS {
        for args in
            [vec![protocol], vec![protocol, "-H", &*format!("Authorization: Bearer {token}")]]
        {
            for path in ["/SMS_MP/.sms_aut?MPLIST", "/SMS_MP_TokenAuth/.sms_pol?x"] {
                let answer = curl(port, path, &args);
                assert_eq!((answer.status, &*answer.code()), (403, "clear.refused"), "{path}");
            }
        }
        let unknown = curl(port, "/nothing", &[protocol]);
        assert_eq!((unknown.status, &*unknown.code()), (403, "route.unknown"));
    }
    assert!(scribe.all().is_empty(), "what is refused reaches nobody");
    let shown = &gateway.status()["site_systems"][0]["plain_http"];
    assert_eq!(
        (&shown["mode"], &shown["listen"]),
        (&"refuse".into(), &format!("127.0.0.1:{port}").into())
    );
    let text = gateway.command(&["status"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&format!("plain HTTP on 127.0.0.1:{port} is refused")), "{text}");
    let told = |line: &serde_json::Value| {
        line["tls"] == "none" && line["reason"] == "clear.refused" && line["substatus"] == 4
    };
    eventually("the log says that it came in clear", || gateway.access().iter().any(told));
    let counted = "sitegate_clear_requests_total{outcome=\"refused\",route=\"mp-location\",";
    eventually("it is counted", || gateway.metric(counted) >= 4.0);
}

#[test]
fn plain_http_reads_are_redirected_under_the_requested_name() {
    let scribe = Scribe::start();
    let (gateway, port) = gateway(&scribe, "redirect", "");
    let to = format!("https://{}:{}", Gateway::HOST, gateway.port);
    for protocol in PROTOCOLS {
        for (path, method) in
            [("/SMS_DP_SMSPKG$/PS100001/a%20b?x={1}", "GET"), ("/SMS_DP_SMSPKG$/x", "HEAD")]
        {
            let head = if method == "HEAD" { "-I" } else { "-G" };
            let answer = curl(port, path, &[protocol, head]);
            assert_eq!(answer.status, 307, "{protocol} {method} {path}: {answer:?}");
            assert_eq!(location(&answer), Some(format!("{to}{path}")));
        }
        let short = curl(port, "/SMS_MP/.sms_aut?MPLIST", &[protocol, "-H", "Host: MP01"]);
        assert_eq!(location(&short).unwrap(), format!("{to}/SMS_MP/.sms_aut?MPLIST"));
        let post = curl(port, "/ccm_system/request", &[protocol, "-X", "CCM_POST", "-d", "x"]);
        assert_eq!((post.status, &*post.code()), (403, "clear.refused"));
        let other = curl(port, "/SMS_MP/.sms_aut", &[protocol, "-H", "Host: evil.example"]);
        assert_eq!((other.status, location(&other)), (421, None));
    }
    let mut followed = gateway.curl_command(&["-L", "-o", "/dev/null", "-w", "%{http_code}"]);
    let resolve = format!("{}:{port}:127.0.0.1", Gateway::HOST);
    followed.args(["--resolve", &resolve]);
    followed.arg(format!("http://{}:{port}/SMS_MP/.sms_aut?MPLIST", Gateway::HOST));
    assert_eq!(String::from_utf8(followed.output().unwrap().stdout).unwrap(), "200");
    assert_eq!(scribe.lines(), ["GET /SMS_MP/.sms_aut?MPLIST HTTP/1.1"]);
}

#[test]
fn passed_plain_http_is_forwarded_unchanged_and_anonymous() {
    let scribe = Scribe::start();
    let port = free_port();
    let plan = Plan::to(&scribe.url()).site_system("windows_auth = true\nupstream = \"translate\"");
    let plan = plan.after(&format!(
        "[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"pass\"\n\
         [[site_system.route]]\npath = \"/CCM_System_AltAuth/own\"\nrequire = \"device\"\n"
    ));
    let gateway = plan.start();
    let token = format!("Authorization: Bearer {}", gateway.token());
    for protocol in PROTOCOLS {
        for path in ["/SMS_MP/.sms_pol?x", "/SMS_DP_SMSPKG$/PS1/a", "/SMS_MP_TokenAuth/.sms_aut?y"]
        {
            let lies = ["-H", "Sitegate-Device: me", "-H", "Sitegate.Device: me"];
            let answer = curl(port, path, &[&[protocol, "-H", &token], &lies[..]].concat());
            assert_eq!(answer.status, 200, "{protocol} {path}: {answer:?}");
            let written = scribe.last();
            assert_eq!(written.line(), format!("GET {path} HTTP/1.1"));
            assert_eq!(written.fields("authorization").len(), 1, "as it came");
            for lie in ["sitegate-device", "sitegate.device"] {
                assert!(written.fields(lie).is_empty(), "nobody vouches for it");
            }
            assert_eq!(written.fields("x-forwarded-proto"), ["http"]);
        }
        let before = scribe.all().len();
        for (path, method, status, code) in [
            ("/SMS_MP_AltAuth/.sms_pol", "GET", 403, "route.alt_auth"),
            ("/CCM_System_AltAuth/own", "GET", 403, "clear.refused"),
            ("/SMS_MP/.sms_pol", "DELETE", 405, "route.method"),
            ("/iisstart.htm", "GET", 403, "route.unknown"),
            ("/SMS_MP/%2e%2e/x", "GET", 400, "path.ambiguous"),
        ] {
            let answer = curl(port, path, &[protocol, "-X", method]);
            assert_eq!((answer.status, &*answer.code()), (status, code), "{protocol} {path}");
        }
        let bad =
            curl(port, "/ccm_system/request", &[protocol, "-X", "CCM_POST", "-d", "no message"]);
        assert_eq!((bad.status, &*bad.code()), (400, "message.malformed"), "{protocol}");
        assert_eq!(scribe.all().len(), before, "what is refused reaches nobody");
    }
    let passed = "sitegate_clear_requests_total{outcome=\"passed\",route=\"mp-policy\",";
    eventually("what passed is counted by namespace", || gateway.metric(passed) >= 2.0);
    // The same request over TLS still needs its token.
    let nobody = gateway.curl("/SMS_DP_SMSPKG$/PS1/a", &[]);
    assert_eq!((nobody.status, &*nobody.code()), (401, "token.missing"));
}

/// The sender of the golden messages.
const SENDER: &str = "GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C";

#[test]
fn passed_plain_http_messages_are_read_even_without_a_guard() {
    let injected = LOCATION.replace(SENDER, &format!("{SENDER}'; exec xp_cmdshell 'whoami'--"));
    let wsus = include_str!("../cases/payloads/wsus.xml");
    let second = injected_payload();
    let lower = LOCATION.replace("MP_LocationManager", "mp_locationmanager");
    for guard in ["off", "shape", "device"] {
        let scribe = Scribe::start();
        let keys = format!("message_guard = \"{guard}\"");
        let (gateway, port) = gateway(&scribe, "pass", &keys);
        for (what, body, status, code) in [
            ("policy", message(POLICY, 2_000), 200, ""),
            ("registration", asking(REGISTRATION, REGISTERS), 200, ""),
            ("content", asking(LOCATION, CONTENT), 200, ""),
            ("updates", asking(LOCATION, wsus), 200, ""),
            ("sender", asking(&injected, CONTENT), 400, "message.source_id"),
            ("policy's sender", message(&POLICY.replace(SENDER, "'"), 9), 400, "message.source_id"),
            ("statement", asking(LOCATION, &second), 400, "message.payload"),
            ("in lower case", asking(&lower, &second), 400, "message.payload"),
            ("no request", message(LOCATION, 900), 400, "message.payload"),
            ("no registration", message(REGISTRATION, 900), 400, "message.payload"),
            ("large", message(LOCATION, 60_000), 400, "message.payload"),
            ("update", asking(LOCATION, UPDATE_SF), 403, "message.request"),
        ] {
            let file = sending(&gateway, "message", &body);
            for protocol in PROTOCOLS {
                // A client that sends an unwanted body may be cut off before it reads the response.
                if body.len() > 48 * 1024 && protocol == "--http1.0" {
                    continue;
                }
                let before = scribe.all().len();
                let answer =
                    curl(port, "/CCM_System/request", &args(&file, &[protocol, "-H", "Expect:"]));
                assert_eq!(
                    (answer.status, &*answer.code()),
                    (status, code),
                    "{guard} {protocol} {what}"
                );
                assert_eq!(scribe.all().len() - before, usize::from(status == 200), "{what}");
                assert!(status != 200 || scribe.last().body == body, "{what}: it changed");
            }
        }
    }
}

#[test]
fn plain_http_without_a_token_gets_no_backend_account() {
    use std::os::unix::fs::PermissionsExt;
    for windows in [false, true] {
        let scribe = Scribe::start();
        let port = free_port();
        let plan = Plan::to(&scribe.url()).site_system(&format!("windows_auth = {windows}"));
        let plan = plan.after(&format!(
            "[site_system.backend_auth]\nbasic = \"file:account\"\n\
             [site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"pass\"\n"
        ));
        let mut gateway = Gateway::prepare(plan);
        std::fs::write(gateway.path("account"), "gateway:sesame").unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(gateway.path("account"), mode).unwrap();
        gateway.launch();
        gateway.wait_until_ready();
        let negotiate = "Negotiate TlRMTVNTUAAB";
        let own = format!("Authorization: {negotiate}");
        let content = "/SMS_DP_SMSPKG$/PS1/a";
        for protocol in PROTOCOLS {
            assert_eq!(curl(port, content, &[protocol]).status, 200);
            assert!(scribe.last().fields("authorization").is_empty(), "{protocol} {windows}");
            assert_eq!(curl(port, content, &[protocol, "-H", &own]).status, 200);
            let came = scribe.last().fields("authorization");
            assert_eq!(came.first().is_some_and(|came| came == negotiate), windows, "{came:?}");
        }
        let token = gateway.token();
        assert_eq!(gateway.curl_as(&token, content, &[]).status, 200);
        let lent = scribe.last().fields("authorization");
        assert!(lent.first().is_some_and(|lent| lent.starts_with("Basic ")), "{lent:?}");
    }
}

#[test]
fn a_silent_plain_http_client_has_the_handshake_timeout() {
    use std::io::{Read, Write};
    let port = free_port();
    let limits = "[limits]\nhandshake_time = \"300ms\"\n";
    let plain = format!("[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\n{limits}");
    let gateway = Plan::to("http://127.0.0.1:1").after(&plain).start();
    let began = std::time::Instant::now();
    let connect = || std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut silent = connect();
    let mut once = connect();
    let asked = format!("GET /SMS_MP/.sms_aut HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    once.write_all(asked.as_bytes()).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "the end");
    println!("the end came after {:?}", began.elapsed());
    assert!(began.elapsed().as_secs() < 3, "ten times what was meant");
    // A connection that has had a request may be idle.
    let mut answers = String::new();
    let mut until = |count: usize, once: &mut std::net::TcpStream| {
        let mut piece = [0; 4096];
        while answers.matches("HTTP/1.1 403").count() < count {
            let read = once.read(&mut piece).unwrap();
            assert!(read > 0, "{answers}");
            answers.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    };
    until(1, &mut once);
    once.write_all(asked.as_bytes()).unwrap();
    until(2, &mut once);
    drop(gateway);
}

#[test]
fn site_systems_share_a_plain_http_address_by_host() {
    let (mp, dp) = (Scribe::start(), Scribe::start());
    let port = free_port();
    let plain = |mode: &str| {
        format!("[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"{mode}\"\n")
    };
    let second = format!(
        "{}[[site_system]]\nname = \"dp01\"\nroles = [\"distribution-point\"]\n\
         listen = \"127.0.0.1:{}\"\nhosts = [\"dp01.contoso.com\"]\nbackend = \"{}\"\n{}",
        plain("refuse"),
        free_port(),
        dp.url(),
        plain("pass")
    );
    let gateway = Plan::to(&mp.url()).after(&second).start();
    let as_dp = ["-H", "Host: dp01.contoso.com"];
    assert_eq!(curl(port, "/SMS_DP_SMSPKG$/x", &as_dp).status, 200);
    assert_eq!(curl(port, "/SMS_DP_SMSPKG$/x", &[]).code(), "clear.refused");
    assert_eq!(curl(port, "/SMS_DP_SMSPKG$/x", &["-H", "Host: x.contoso.com"]).status, 421);
    assert_eq!((mp.all().len(), dp.all().len()), (0, 1));
    let of_dp = |line: &serde_json::Value| line["site_system"] == "dp01" && line["status"] == 200;
    eventually("the log names the one that was meant", || gateway.access().iter().any(of_dp));
    // A reload removes it, and brings it back.
    let text = gateway.config_text();
    gateway.write_config(&text.replace(&plain("pass"), "").replace(&plain("refuse"), ""));
    eventually("nobody listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    gateway.write_config(&text.replace(&plain("refuse"), &plain("pass")));
    eventually("it passes now", || curl(port, "/SMS_DP_SMSPKG$/x", &[]).status == 200);
}

#[test]
fn crls_and_issuers_are_published_over_plain_http_in_any_mode() {
    for mode in ["refuse", "redirect", "pass"] {
        let scribe = Scribe::start();
        let port = free_port();
        let url = format!("http://{}:{port}/sitegate/authority", Gateway::HOST);
        let plan = Plan::to(&scribe.url()).site(&format!("crl_url = \"{url}\"")).after(&format!(
            "[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"{mode}\"\n"
        ));
        let gateway = plan.start();
        let leaf = served(gateway.port);
        assert!(leaf.contains(&format!("{url}/role.crl")), "{leaf}");
        assert!(leaf.contains(&format!("{url}/role.cer")), "{leaf}");
        for protocol in PROTOCOLS {
            let list = curl(port, "/sitegate/authority/role.crl", &[protocol]);
            assert_eq!(list.status, 200, "{mode}: {list:?}");
            assert!(list.head.contains("application/pkix-crl"), "{}", list.head);
            let path = gateway.path("state/authority/crl/role.crl");
            assert_eq!(list.body, std::fs::read(path).unwrap());
            let issuer = curl(port, "/sitegate/authority/role.cer", &[protocol]);
            assert!(issuer.head.contains("application/pkix-cert"), "{}", issuer.head);
            let upgrade = ["Upgrade: websocket", "Connection: upgrade"];
            let socket = ["-H", upgrade[0], "-H", upgrade[1], "-H", "Sec-WebSocket-Version: 13"];
            let key = ["-H", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="];
            let asked = [&["--http1.1"], &socket[..], &key].concat();
            let refused = curl(port, "/sitegate/authority/role.crl", &asked);
            assert_eq!(refused.code(), "route.websocket");
            for path in ["role.key", "..%2frole.key", "x.crl", ""] {
                let answer = curl(port, &format!("/sitegate/authority/{path}"), &[protocol]);
                assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
            }
        }
        let tag = curl(port, "/sitegate/authority/role.crl", &[]).head;
        let tag = tag.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        let again =
            curl(port, "/sitegate/authority/role.crl", &["-H", &format!("If-None-Match: {tag}")]);
        assert_eq!(again.status, 304);
        assert!(scribe.all().is_empty());
        let served = "sitegate_clear_requests_total{outcome=\"served\",route=\"authority\",";
        eventually("it is counted", || gateway.metric(served) >= 4.0);
    }
}

#[test]
fn limits_and_framing_apply_to_plain_http() {
    use std::io::{Read, Write};
    let scribe = Scribe::start();
    let (gateway, port) = gateway(&scribe, "pass", "");
    let ask = |bytes: &[u8]| {
        let mut tcp = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        tcp.write_all(bytes).unwrap();
        let mut all = Vec::new();
        let _ = tcp.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    };
    let host = Gateway::HOST;
    for (bytes, code) in [
        (
            format!(
                "GET /SMS_MP/.sms_aut HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            "framing.length_and_coding",
        ),
        (format!("GET  /SMS_MP/.sms_aut HTTP/1.1\r\nHost: {host}\r\n\r\n"), "framing.head"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "framing."),
        (
            format!(
                "GET /SMS_MP/.sms_aut HTTP/1.1\r\nHost: {host}\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
            ),
            "framing.upgrade",
        ),
        (
            format!(
                "GET /SMS_MP/.sms_aut HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n",
                "x".repeat(70_000)
            ),
            " 431 ",
        ),
    ] {
        let told = ask(bytes.as_bytes());
        assert!(told.contains(code), "{code}: {told:?}");
    }
    // A ClientHello is no request.
    let told = ask(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0, b'\r', b'\n', b'\r', b'\n']);
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{told:?}");
    assert!(scribe.all().is_empty());
    let refused = "sitegate_clear_requests_total{outcome=\"refused\",route=\"none\",";
    eventually("they are counted", || gateway.metric(refused) >= 4.0);
    assert_eq!(gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[]).status, 200);
}

#[test]
fn an_address_is_one_of_tls_or_one_of_plain_http() {
    let gateway = Gateway::prepare(Plan::to("http://127.0.0.1:8080"));
    let text = gateway.config_text();
    let listen = format!("listen = \"127.0.0.1:{}\"", gateway.port);
    for (plain, wanted) in [
        (listen.as_str(), "where 'mp01' listens with TLS"),
        ("mode = \"pass\"", "listen of plain_http is missing"),
        ("listen = \"80\"", "listen is not an address with a port"),
        ("listen = \"127.0.0.1:80\"\nmode = \"open\"", "refuse"),
    ] {
        gateway.write_config(&format!("{text}\n[site_system.plain_http]\n{plain}\n"));
        let out = gateway.command(&["check"]).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(78), "{plain}: {told}");
        assert!(told.contains(wanted), "{plain}: {told}");
    }
    let passes = "[site_system.plain_http]\nlisten = \"127.0.0.1:80\"\nmode = \"pass\"\n";
    let far = text.replace("http://127.0.0.1:8080", "http://192.0.2.1:80");
    let check = |text: &str| {
        gateway.write_config(text);
        let out = gateway.command(&["check"]).output().unwrap();
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
    };
    let told = check(&format!("{far}\n{passes}"));
    assert!(told.contains("passing plain HTTP forwards requests to http://192"), "{told}");
    let default = text.replace("[[site_system]]", "[[site_system]]\ndefault = true");
    let second = "[[site_system]]\nname = \"dp01\"\nroles = [\"distribution-point\"]\n\
                  default = true\nlisten = \"127.0.0.1:0\"\nhosts = [\"dp01.contoso.com\"]\n\
                  backend = \"http://127.0.0.1:81\"\n";
    let told = check(&format!("{default}\n{passes}{second}{passes}"));
    assert!(told.contains("both the default site system for plain HTTP"), "{told}");
    gateway.write_config(&format!("{text}\n{passes}"));
    let out = gateway.command(&["check"]).output().unwrap();
    let told = [out.stdout, out.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("plain HTTP passes"), "{told}");
}
