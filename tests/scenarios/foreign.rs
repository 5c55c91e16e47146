//! Foreign clients and backends behave through sitegate as they do without it.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::{
    Apache, Gateway, Liar, Nginx, Part, Plan, Then, eventually, free_port, python, write_pattern,
};

const REPORTS: &str = "[[site_system.route]]\npath = \"/reports/\"\nrequire = \"windows\"\n";
/// All of WebDAV, for everyone. Distribution points use a part of it.
const DAV: &str = r#"[[site_system.route]]
path = "/dav/"
require = "anonymous"
methods = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "LOCK", "UNLOCK"]
[[site_system.route]]
path = "/SMS_DP_SMSPKG$/"
require = "anonymous"
methods = ["GET", "HEAD", "OPTIONS", "PROPFIND"]
"#;

fn told(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn an_ntlm_library_authenticates_to_apache_through_sitegate() {
    let apache = Apache::start();
    let gateway = Plan::to(&apache.url()).site_system("windows_auth = true").after(REPORTS).start();
    let root = gateway.path("root.pem");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/ntlm_client.py");
    let out = Command::new(python())
        .args([script, &gateway.url("/reports/sales.txt"), root.to_str().unwrap()])
        .args([Apache::USER, Apache::PASSWORD])
        // The environment's roots would take precedence over those that the script names.
        .env("REQUESTS_CA_BUNDLE", &root)
        .output()
        .unwrap();
    assert_eq!(
        told(&out).lines().collect::<Vec<_>>(),
        ["200 sales", "200 sales", "200 sales", "401"]
    );
    let as_alice = r"GET /reports/sales.txt 200 u=CONTOSO\\alice";
    // Apache writes its log after the response.
    let alices = || apache.seen().iter().filter(|line| line.starts_with(as_alice)).count();
    eventually("Apache knows whose the three requests were", || alices() == 3);
    // The next client's connection is unauthenticated.
    let nobody = gateway.curl("/reports/sales.txt", &[]);
    assert_eq!(nobody.status, 401);
    assert!(nobody.head.to_ascii_lowercase().contains("www-authenticate: ntlm"), "{}", nobody.head);
}

#[test]
fn via_is_forwarded_only_on_windows_auth_routes() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let backend = Liar::start(move |_, _| (vec![Part::Bytes(answer.to_vec())], Then::Keep));
    let gateway =
        Plan::to(&backend.url()).site_system("windows_auth = true").after(REPORTS).start();
    for (path, told) in [("/reports/x", true), ("/SMS_MP/.sms_aut?MPLIST", false)] {
        for via in [Some("Via: 1.1 proxy.contoso.com"), None] {
            let fields = via.map_or(vec![], |via| vec!["-H", via]);
            let answer = gateway.curl(path, &[&["--http1.1"], &fields[..]].concat());
            assert_eq!(answer.status, 200, "{answer:?}");
            let asked = backend.asked().pop().unwrap().to_ascii_lowercase();
            let expected = via.filter(|_| told).map(str::to_ascii_lowercase);
            let found = asked.lines().find(|line| line.starts_with("via:"));
            assert_eq!(found, expected.as_deref(), "{path} {via:?}");
        }
    }
}

#[test]
fn curl_authenticates_by_ntlm_on_its_own_connection_only() {
    let backend = sitegate_lab::windows::WindowsBackend::start().unwrap();
    let url = format!("http://{}", backend.address());
    let gateway = Plan::to(&url).site_system("windows_auth = true").start();
    let path = "/SMS_MP_WindowsAuth/.sms_pol?x";
    for (version, status) in [("--http1.1", 200), ("--http2", 200)] {
        // Over HTTP/2 the gateway sends HTTP_1_1_REQUIRED, and curl retries over HTTP/1.1.
        let answer = gateway.curl(path, &[version, "--ntlm", "-u", "CONTOSO\\anna:any"]);
        assert_eq!(answer.status, status, "{version}: {answer:?}");
        assert_eq!(answer.text(), "anna", "{version}");
    }
    let nobody = gateway.curl(path, &["--http1.1"]);
    assert_eq!((nobody.status, &*nobody.text()), (401, "-"));
}

/// The suites of litmus that use one address. The others write it into `Destination` with its
/// scheme, and Apache compares that with its own.
const SUITES: &str = "basic props http";
/// One of their steps does so too, and litmus itself skips one over TLS.
const OTHERWISE: [&str; 2] = ["propmove", "expect100"];

fn litmus(url: &str, folder: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new("litmus")
        .args(["-k", url])
        .env("TESTS", SUITES)
        .current_dir(dir.path())
        .output()
        .expect("litmus is installed by 'make setup'");
    let told = told(&out);
    let last = |line: &str| line.rsplit('\r').next().unwrap_or_default().trim().to_owned();
    let meant =
        |line: &String| line.contains("..") && !OTHERWISE.iter().any(|step| line.contains(step));
    let lines: Vec<String> = told.lines().map(last).filter(meant).collect();
    assert!(lines.len() > 40, "{folder}: {told}");
    lines
}

#[test]
fn litmus_finds_the_same_webdav_with_and_without_sitegate() {
    let apache = Apache::start();
    let gateway = Plan::to(&apache.url()).site_system("default = true").after(DAV).start();
    let direct = litmus(&format!("{}/dav/", apache.url()), "direct");
    let through = litmus(&format!("https://127.0.0.1:{}/dav/", gateway.port), "through");
    assert_eq!(through, direct);
    assert!(!direct.iter().any(|line| line.contains("FAIL")), "{direct:#?}");
}

/// Returns cadaver's listing of a folder. Without a terminal it rejects a certificate by an unknown
/// root, so it uses plain HTTP.
fn cadaver(url: &str) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let script = format!(
        "printf 'ls\\nls deep\\nget small.txt {}/got\\nquit\\n' | cadaver '{url}'",
        home.path().display()
    );
    let out = Command::new("sh").args(["-c", &script]).env("HOME", home.path()).output().unwrap();
    let told = told(&out);
    assert_eq!(std::fs::read(home.path().join("got")).unwrap_or_default(), b"0123456789", "{told}");
    let listed =
        |line: &&str| line.contains("Coll:") || line.ends_with("20") || line.contains("  ");
    told.lines().filter(listed).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn cadaver_lists_a_package_the_same_through_sitegate() {
    let nginx = Nginx::start();
    for name in ["deep", "with space"] {
        std::fs::create_dir(nginx.content().join(name)).unwrap();
    }
    write_pattern(&nginx.content().join("deep/one$.wim"), 1);
    let port = free_port();
    let plain =
        format!("[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"pass\"\n");
    let gateway = Plan::to(&nginx.url()).after(&plain).after(DAV).start();
    let path = "/SMS_DP_SMSPKG$/PS100001/";
    let through = cadaver(&format!("http://127.0.0.1:{port}{path}"));
    assert_eq!(through, cadaver(&format!("{}{path}", nginx.url())));
    assert!(
        through.iter().any(|line| line.contains("one$.wim") && line.contains("1048576")),
        "{through:#?}"
    );
    let passed = "sitegate_clear_requests_total{outcome=\"passed\",";
    eventually("it came by sitegate", || gateway.metric(passed) >= 3.0);
}

#[test]
fn aria2_downloads_a_file_in_eight_parallel_ranges() {
    // So slow per connection that one cannot finish the file before the others begin.
    let nginx = Nginx::with("", "limit_rate 8m;");
    let file = nginx.content().join("big.wim");
    write_pattern(&file, 64);
    let gateway = Plan::to(&nginx.url()).start();
    let token = gateway.token();
    let dir: PathBuf = gateway.path("downloaded");
    let out = Command::new("aria2c")
        .args(["-x8", "-s8", "-k1M", "--check-certificate=false", "--no-conf=true", "-q"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--header", &format!("Host: {}", Gateway::HOST), "-d"])
        .arg(&dir)
        .arg(format!("https://127.0.0.1:{}/SMS_DP_SMSPKG$/PS100001/big.wim", gateway.port))
        .output()
        .expect("aria2c is installed by 'make setup'");
    assert!(out.status.success(), "{}", told(&out));
    assert!(std::fs::read(dir.join("big.wim")).unwrap() == std::fs::read(&file).unwrap());
    // nginx writes its log after the last byte, when aria2 ends. The first of the eight requests
    // asks for the whole file, because the length is still unknown.
    let asked = || nginx.seen().iter().filter(|line| line.contains("/big.wim ")).count();
    eventually("nginx was asked eight times", || asked() >= 8);
    let ranges = nginx.seen().iter().filter(|line| line.contains(" 206 ")).count();
    assert!(ranges >= 7, "{:?}", nginx.seen());
}
