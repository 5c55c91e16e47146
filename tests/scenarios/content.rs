//! Allowed requests get the backend's own bytes.

use std::io::Read;
use std::process::Stdio;

use aws_lc_rs::digest;

use crate::support::{DEVICE, Gateway, Liar, Nginx, Part, Plan, Then, write_pattern};

fn sha256(mut reader: impl Read) -> (u64, String) {
    let mut context = digest::Context::new(&digest::SHA256);
    let (mut buffer, mut total) = (vec![0; 1 << 18], 0);
    loop {
        let n = reader.read(&mut buffer).unwrap();
        if n == 0 {
            let hex = context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect();
            return (total, hex);
        }
        total += n as u64;
        context.update(&buffer[..n]);
    }
}

fn download(gateway: &Gateway, token: &str, version: &str) -> (u64, String) {
    let header = format!("Authorization: Bearer {token}");
    let url = gateway.url("/SMS_DP_SMSPKG$/PS100001/big.wim");
    let mut curl = gateway
        .curl_command(&[version, "--fail", "-H", &header, &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let digest = sha256(curl.stdout.take().unwrap());
    assert!(curl.wait().unwrap().success());
    digest
}

#[test]
fn a_gibibyte_arrives_intact_at_flat_memory() {
    let nginx = Nginx::start();
    let big = nginx.content().join("big.wim");
    write_pattern(&big, 1024);
    let gateway = Plan::to(&nginx.url()).start();
    let token = gateway.token();
    let expected = sha256(std::fs::File::open(&big).unwrap());
    assert_eq!(expected.0, 1 << 30);
    gateway.curl_as(&token, "/SMS_DP_SMSPKG$/PS100001/small.txt", &[]);
    let before = gateway.memory_kib();
    for version in ["--http1.1", "--http2"] {
        assert_eq!(download(&gateway, &token, version), expected, "{version}");
        let grown = gateway.memory_kib().saturating_sub(before);
        println!("{version}: memory grew by {grown} KiB");
        assert!(grown < 32 * 1024, "memory grew by {grown} KiB over {version}");
    }
}

/// Returns the fields of a head without those of the connection.
fn comparable(head: &str) -> Vec<String> {
    let own = ["connection:", "keep-alive:", "date:"];
    let mut fields: Vec<String> = head
        .lines()
        .skip(1)
        .map(|line| line.trim().to_ascii_lowercase())
        .filter(|line| !own.iter().any(|name| line.starts_with(name)))
        .collect();
    fields.sort();
    fields
}

#[test]
fn ranges_conditions_and_propfind_match_the_backend() {
    let nginx = Nginx::start();
    write_pattern(&nginx.content().join("big.wim"), 3);
    let gateway = Plan::to(&nginx.url()).start();
    let token = gateway.token();
    let big = "/SMS_DP_SMSPKG$/PS100001/big.wim";
    let cases: &[(&str, &[&str])] = &[
        (big, &["-I"]),
        (big, &[]),
        (big, &["-r", "0-0"]),
        (big, &["-r", "1048570-1048590"]),
        (big, &["-r", "-100"]),
        (big, &["-r", "99999999-"]),
        (big, &["-H", "If-None-Match: \"x\""]),
        (big, &["-H", "If-Modified-Since: Sun, 22 Nov 2099 00:00:00 GMT"]),
        (big, &["-H", "Accept-Encoding: gzip, br"]),
        ("/SMS_DP_SMSPKG$/PS100001/", &["-X", "PROPFIND", "-H", "Depth: 1"]),
        ("/sms_dp_smspkg$/absent", &[]),
    ];
    for (path, args) in cases {
        let direct = std::process::Command::new("curl")
            .args(["-sS", "-D", "-", "--http1.1"])
            .args(*args)
            .arg(format!("{}{path}", nginx.url()))
            .output()
            .unwrap();
        let through = gateway.curl_as(&token, path, &[&["--http1.1"], *args].concat());
        let text = direct.stdout;
        let end = text.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&text[..end]).into_owned();
        assert_eq!(comparable(&through.head), comparable(&head), "{path} {args:?}");
        let status = head.split(' ').nth(1).unwrap().to_owned();
        assert_eq!(through.status.to_string(), status, "{path} {args:?}");
        assert!(through.body == text[end + 4..], "the body of {path} {args:?} differs");
    }
}

#[test]
fn a_ccm_message_arrives_equal_with_and_without_a_length() {
    let echo = crate::backends::Echo::start();
    let to_echo = format!(
        "location ~* ^/ccm_system_tokenauth/ {{ proxy_pass {}; proxy_http_version 1.1; }}",
        echo.url()
    );
    let nginx = Nginx::with("", &to_echo);
    let gateway = Plan::to(&nginx.url()).unguarded().start();
    let token = gateway.token();
    let mut sent = 0;
    let body = gateway.path("message");
    write_pattern(&body, 1);
    let data = format!("@{}", body.display());
    let expected = sha256(std::fs::File::open(&body).unwrap()).1;
    for version in ["--http1.1", "--http2"] {
        for framing in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect:"]] {
            if version == "--http2" && framing.contains(&"Transfer-Encoding: chunked") {
                continue;
            }
            let kind = "Content-Type: multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";
            let args = ["-X", "CCM_POST", "--data-binary", &data, "-H", kind, version];
            let path = "/CCM_System_TokenAuth/request";
            let answer = gateway.curl_as(&token, path, &[&args[..], framing].concat());
            assert_eq!(answer.status, 200, "{version} {framing:?}: {answer:?}");
            assert_eq!(sha256(&answer.body[..]).1, expected, "{version} {framing:?}");
            sent += 1;
            nginx.assert_seen(sent);
        }
    }
}

#[test]
fn the_backend_learns_who_asks_and_never_the_token() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let token = gateway.token();
    let lies = [
        "-H",
        "Sitegate-Device: GUID:evil",
        "-H",
        "Sitegate_Device: GUID:evil",
        "-H",
        "X-Forwarded-For: 6.6.6.6",
        "-H",
        "X_Forwarded_For: 6.6.6.6",
        "-H",
        "X-Forwarded-Proto: http",
        "-H",
        "Connection: Sitegate-Device, X-Forwarded-Proto",
    ];
    let small = "/SMS_DP_SMSPKG$/PS100001/small.txt";
    assert_eq!(gateway.curl_as(&token, small, &lies[..10]).status, 200);
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &lies[..10]).status, 200);
    nginx.assert_seen(2);
    let seen = nginx.seen();
    assert!(seen[0].contains(&format!("d={DEVICE} a=- xff=127.0.0.1 xfp=https")), "{seen:?}");
    assert!(seen[1].contains("d=- a=- xff=127.0.0.1 xfp=https"), "{seen:?}");
    // A Connection field that nominates sitegate's own fields is refused or ignored, and never
    // removes them.
    let nominated = gateway.curl_as(&token, small, &[&["--http1.1"], &lies[..]].concat());
    assert_eq!(nominated.status, 200);
    nginx.assert_seen(3);
    let line = &nginx.seen()[2];
    assert!(line.contains(&format!("d={DEVICE} a=- xff=127.0.0.1 xfp=https")), "{line}");
}

#[test]
fn no_forged_identity_field_reaches_the_backend() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let liar = Liar::start(move |_, _| (vec![Part::Bytes(answer.to_vec())], Then::Keep));
    let gateway = Plan::to(&liar.url()).start();
    let names = [
        "X-Forwarded-For",
        "X_Forwarded_For",
        "x-forwarded_Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "Forwarded",
        "X-Real-IP",
        "X_Real_IP",
        "Front-End-Https",
        "X-Original-URL",
        "X_Rewrite_URL",
        "X-HTTP-Method-Override",
        "X-ARR-ClientCert",
        "X-ARR-SSL",
        "X-SSL-Client-Verify",
        "Client-Cert",
        "Sitegate-Device",
        "SITEGATE_USER",
        "sitegate-new",
        "Via",
        "MS-ASPNETCORE-WINAUTHTOKEN",
        "X-MS-CLIENT-PRINCIPAL",
        "X-WEBAUTH-USER",
        "X-Accel-Redirect",
        // Servers that map each such character to `_` read these as sitegate's fields.
        "Sitegate.Device",
        "X~Forwarded!For",
        "X.Unknown",
    ];
    let lies: Vec<String> = names.iter().map(|name| format!("{name}: evil")).collect();
    let lies: Vec<&str> = lies.iter().flat_map(|lie| ["-H", lie]).collect();
    // Nominated as connection fields, the gateway's own fields would be removed on the way.
    let nominated = "Connection: close, X-Forwarded-Proto, X-Forwarded-For, X-Request-Id";
    let ways = [
        &["--http1.1", "-H", nominated][..],
        // Such a nomination is itself refused.
        &["--http1.1", "-H", "TE: trailers"],
        &["--http2"],
    ];
    for way in ways {
        let before = liar.asked().len();
        let answer = gateway.curl("/CCM_Client/x", &[way, &lies].concat());
        assert_eq!(answer.status, 200, "{way:?}: {answer:?}");
        let asked = liar.asked()[before..].concat().to_ascii_lowercase();
        assert!(!asked.contains("evil"), "{way:?}: {asked}");
        for said in
            ["x-forwarded-proto: https\r\n", "x-forwarded-for: 127.0.0.1\r\n", "\r\nhost: mp01"]
        {
            assert_eq!(asked.matches(said).count(), 1, "{way:?}: {said} in {asked}");
        }
        let before = liar.asked().len();
        for path in ["/metrics", "/livez", "/readyz", "/healthz", "/ping", "/api/v1/status"] {
            let probing = ["-A", "kube-probe/1.30", "-H", "X-Health: /CCM_Client/x"];
            let path = format!("{path}?/CCM_Client/x");
            let answer = gateway.curl(&path, &[way, &probing].concat());
            assert_eq!(answer.status, 403, "{way:?} {path}: {answer:?}");
        }
        assert_eq!(liar.asked().len(), before, "{way:?}");
    }
}
