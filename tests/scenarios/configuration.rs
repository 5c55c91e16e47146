//! The configuration file is applied as a whole or not at all, at start and on reload.

use std::process::Command;
use std::time::{Duration, Instant};

use sitegate::token::{SignerKind, TokenSigner, jwks};
use sitegate_forge::{Order, Pki, Protection, pfx};

use crate::support::{Gateway, Nginx, Plan, connect, eventually};

const ASK: &str = "GET /CCM_Client/ccmsetup.cab HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n";

#[test]
fn a_bad_configuration_exits_78_with_every_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(
        &file,
        r#"[site]
code = "TOOLONG"
hierarchy = "no guid"
crl_url = "https://pki.contoso.com"
[limits]
header_time = "soon"
headr_bytes = 5
[[site_system]]
name = "mp 01"
roles = ["management-pont"]
listen = "443"
hots = ["mp01.contoso.com"]
backend = "ftp://x"
issuers = ["entra"]
[[token_issuer]]
name = "entra"
kind = "entra"
tenant = "contoso"
keys = "https://login.microsoftonline.com/keys"
[frobnicate]
"#,
    )
    .unwrap();
    for command in ["run", "check"] {
        let began = Instant::now();
        let out = Command::new(env!("CARGO_BIN_EXE_sitegate"))
            .args([command, "--config"])
            .arg(&file)
            .output()
            .unwrap();
        println!("{command} told after {:?}", began.elapsed());
        assert_eq!(out.status.code(), Some(78));
        let text = String::from_utf8(out.stderr).unwrap();
        for wanted in [
            "a site code is three letters or digits",
            "hierarchy is not a GUID",
            "crl_url is not a plain http:// URL without query",
            "header_time: invalid value: string \"soon\", expected a duration",
            "unknown key 'headr_bytes' in [limits]",
            "did you mean 'header_bytes'?",
            "a name is up to 64 letters",
            "unknown role 'management-pont'",
            "did you mean 'management-point'?",
            "listen is not an address with a port",
            "unknown key 'hots' in [[site_system]]",
            "did you mean 'hosts'?",
            "'ftp://x' is not a backend",
            "tenant is not a GUID",
            "unknown section 'frobnicate'",
            "gateway.toml:2:8",
        ] {
            assert!(text.contains(wanted), "'{wanted}' is not in\n{text}");
        }
        assert!(out.stdout.is_empty());
    }
}

#[test]
fn every_broken_file_keeps_the_old_configuration() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let good = gateway.config_text();
    let path = gateway.path("gateway.toml");
    let mut idle = connect(&gateway);
    idle.send(ASK.as_bytes());
    assert_eq!(idle.read_answer().0, 200);
    let huge = format!("{good}\n#{}", "x".repeat(10 << 20));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("truncated", good.as_bytes()[..good.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("syntax", format!("{good}\n[[").into_bytes()),
        ("unknown key", good.replace("hosts", "hots").into_bytes()),
        ("wrong type", good.replace("hosts = [", "hosts = 5 #").into_bytes()),
        (
            "duplicate key",
            good.replace("code = \"PS1\"", "code = \"PS1\"\ncode = \"PS2\"").into_bytes(),
        ),
        ("not UTF-8", [good.as_bytes(), &[0xff, 0xfe]].concat()),
        ("10 MB", huge.into_bytes()),
        (
            "a listener of someone else",
            good.replace(&format!(":{}\"", gateway.port), &format!(":{}\"", nginx.port))
                .into_bytes(),
        ),
        (
            "tokens in clear to another machine",
            good.replace(&nginx.url(), "http://no-such-host.invalid").into_bytes(),
        ),
        ("what needs a restart", good.replace("PS1", "PS2").into_bytes()),
    ];
    for (what, bytes) in cases {
        std::fs::write(gateway.path("new"), bytes).unwrap();
        std::fs::rename(gateway.path("new"), &path).unwrap();
        eventually(&format!("{what} is told"), || {
            gateway.metric("sitegate_config_last_reload_successful") == 0.0
                && gateway.status()["config"]["error"].is_string()
        });
        let error = gateway.status()["config"]["error"].as_str().unwrap().to_owned();
        println!("{what}: {error}");
        if ["syntax", "unknown key", "wrong type", "duplicate key"].contains(&what) {
            let place = error.split("gateway.toml:").nth(1).unwrap_or("");
            assert!(place.starts_with(|c: char| c.is_ascii_digit()), "{what}: {error}");
        }
        assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200, "{what}");
        idle.send(ASK.as_bytes());
        assert_eq!(idle.read_answer().0, 200, "{what}: the idle connection stays");
        gateway.write_config(&format!("{good}\n# again\n"));
        eventually("a good file is taken", || {
            gateway.metric("sitegate_config_last_reload_successful") == 1.0
        });
    }
    let told = || gateway.metric("sitegate_config_last_reload_successful") == 0.0;
    std::fs::remove_file(&path).unwrap();
    eventually("a deleted file is told", told);
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
    // A path that no user can read as a file; and links, to a bad file and to a good one.
    std::fs::create_dir(&path).unwrap();
    eventually("a directory is told", told);
    std::fs::remove_dir(&path).unwrap();
    let link = |text: &str| {
        let target = gateway.path(&format!("linked{}", text.len()));
        std::fs::write(&target, text).unwrap();
        std::os::unix::fs::symlink(target, gateway.path("link")).unwrap();
        std::fs::rename(gateway.path("link"), &path).unwrap();
    };
    link(&good);
    eventually("a link to a good file is followed", || !told());
    link("[site");
    eventually("a link to a bad file is told", told);
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
    gateway.write_config(&format!("\u{feff}{good}"));
    eventually("a byte order mark is no fault", || {
        gateway.metric("sitegate_config_last_reload_successful") == 1.0
    });
}

#[test]
fn a_moved_listener_opens_before_the_old_one_closes() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let mut old = connect(&gateway);
    old.send(ASK.as_bytes());
    assert_eq!(old.read_answer().0, 200);
    let port = crate::support::free_port();
    let (from, to) = (format!(":{}\"", gateway.port), format!(":{port}\""));
    gateway.write_config(&gateway.config_text().replace(&from, &to));
    let open = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    eventually("the old one is closed", || !open(gateway.port));
    assert!(open(port), "the new one is open by then");
    let config = crate::support::client_config(&gateway);
    let mut new = crate::support::Wire::open(config, port, Gateway::HOST).unwrap();
    for wire in [&mut new, &mut old] {
        wire.send(ASK.as_bytes());
        assert_eq!(wire.read_answer().0, 200);
    }
    // The port of another process: nothing changes.
    let taken = format!(":{}\"", nginx.port);
    gateway.write_config(&gateway.config_text().replace(&from, &taken));
    eventually("it is told", || gateway.status()["config"]["error"].is_string());
    assert!(open(port));
}

#[test]
fn an_unresolvable_backend_name_changes_nothing() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).site_system("cleartext = \"accepted\"").start();
    let text = gateway.config_text().replace(&nginx.url(), "http://no-such-host.invalid");
    gateway.write_config(&text);
    eventually("it is told", || {
        let told = gateway.status()["config"]["error"].to_string();
        told.contains("no-such-host.invalid:80 does not resolve")
    });
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
}

#[test]
fn a_reload_with_other_hosts_issues_one_certificate() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let own = format!("hosts = [\"{}\"", Gateway::HOST);
    let issued = || gateway.log().matches("certificate selected").count();
    for n in 0..12 {
        let more = format!("{own}, \"mp{n}.contoso.com\"");
        gateway.write_config(&gateway.config_text().replace(&own, &more));
        let name = format!("CN={}", Gateway::HOST);
        eventually("the reload is told of", || {
            gateway.log().matches("the configuration was reloaded").count() == n + 1
        });
        gateway.assert_logged(&name);
    }
    // After the end the log is complete: the replaced parts issued no further certificate.
    gateway.signal("TERM");
    eventually("it has ended", || gateway.get(gateway.metrics, "/livez").is_none());
    assert_eq!(issued(), 13, "{}", gateway.log());
}

#[test]
fn hosts_may_be_hundreds_in_any_case() {
    let nginx = Nginx::start();
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()));
    let own = format!("\"{}\"", Gateway::HOST);
    let many: String = (0..300).map(|n| format!(", \"Host{n}.contoso.com\"")).collect();
    gateway.write_config(&gateway.config_text().replace(&own, &format!("{own}{many}")));
    gateway.launch();
    gateway.wait_until_ready();
    for (host, status) in [
        ("host0.contoso.com", 200),
        ("HOST299.CONTOSO.COM:443", 200),
        ("hOsT150.contoso.com", 200),
        ("host300.contoso.com", 421),
    ] {
        let mut wire = connect(&gateway);
        wire.send(ASK.replace(Gateway::HOST, host).as_bytes());
        assert_eq!(wire.read_answer().0, status, "{host}");
    }
}

#[test]
fn a_reload_applies_to_the_next_request_on_open_connections() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let mut wire = connect(&gateway);
    let ask = format!("GET /own/x HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    wire.send(ask.as_bytes());
    assert_eq!(wire.read_answer().0, 403);
    let more = "[[site_system.route]]\npath = \"/own/\"\nrequire = \"anonymous\"\n";
    gateway.write_config(&(gateway.config_text() + more));
    eventually("the new route is there", || gateway.curl("/own/x", &[]).status == 404);
    wire.send(ask.as_bytes());
    assert_eq!(wire.read_answer().0, 404, "the backend's own answer");
    // The site system is gone: its connections do not pass to another.
    let text = gateway.config_text().replace("name = \"mp01\"", "name = \"mp02\"");
    gateway.write_config(&text);
    eventually("it has another name", || gateway.status()["site_systems"][0]["name"] == "mp02");
    wire.send(ask.as_bytes());
    assert_eq!(wire.read_answer().0, 421);
    assert!(wire.is_closed());
}

#[test]
fn reloads_under_load_fail_nothing_and_drop_no_idle_connection() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let mut idle: Vec<_> = (0..20).map(|_| connect(&gateway)).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (ok, failed) = (std::sync::atomic::AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    use std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut keep = connect(&gateway);
                while !stop.load(Relaxed) {
                    keep.send(ASK.as_bytes());
                    let kept = keep.read_answer().0;
                    let mut new = connect(&gateway);
                    new.send(ASK.as_bytes());
                    let fresh = new.read_answer().0;
                    match (kept, fresh) {
                        (200, 200) => drop(ok.fetch_add(2, Relaxed)),
                        other => failed.lock().unwrap().push(other),
                    }
                }
            });
        }
        for n in 0..50 {
            let route =
                format!("[[site_system.route]]\npath = \"/own{n}/\"\nrequire = \"anonymous\"\n");
            gateway.write_config(&(gateway.config_text() + &route));
            eventually("it is in force", || gateway.curl(&format!("/own{n}/x"), &[]).status == 404);
        }
        stop.store(true, Relaxed);
    });
    let failed = failed.into_inner().unwrap();
    println!("50 reloads, {} requests, {} failed", ok.load(Relaxed), failed.len());
    assert!(failed.is_empty(), "{failed:?}");
    for wire in &mut idle {
        wire.send(ASK.as_bytes());
        assert_eq!(wire.read_answer().0, 200, "an idle connection was dropped");
    }
    let series = gateway.get(gateway.metrics, "/metrics").unwrap().1;
    assert!(!series.contains("own-2"), "routes that are gone leave no series");
}

#[test]
fn an_address_in_use_at_start_is_reported_in_one_line() {
    let nginx = Nginx::start();
    let first = Plan::to(&nginx.url()).start();
    let second = Gateway::prepare(Plan::to(&nginx.url()));
    let text = second.config_text().replace(&second.port.to_string(), &first.port.to_string());
    second.write_config(&text);
    let began = Instant::now();
    let out = second.command(&["run"]).output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stderr).unwrap();
    let line = text.lines().find(|l| l.starts_with("sitegate: ")).unwrap();
    assert!(line.contains("site system mp01 cannot listen on 127.0.0.1:"), "{line}");
}

#[test]
fn status_and_health_report_what_the_process_does() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let run = |args: &[&str]| {
        let out = gateway.command(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    assert_eq!(run(&["health"]), (Some(0), "ready\n".to_owned()));
    let (code, text) = run(&["status"]);
    assert_eq!(code, Some(0));
    for wanted in ["ready", "mp01", "site-issued-no-pki", "SMS Role Signing", "thumbprint"] {
        assert!(text.contains(wanted), "'{wanted}' is not in\n{text}");
    }
    let (_, json) = run(&["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["site_systems"][0]["reason"], "site-issued-no-pki");
    // A foreign Host comes from a web page elsewhere that reads through a browser (DNS rebinding).
    let foreign = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: evil.example"])
        .arg(format!("http://127.0.0.1:{}/api/v1/status", gateway.admin))
        .output()
        .unwrap();
    assert_eq!(foreign.stdout, b"421");
    let (code, _) = gateway.get(gateway.metrics, "/api/v1/status").unwrap();
    assert_eq!(code, 404, "status is not on the listener that may leave the machine");
}

#[test]
fn sighup_reads_the_file_again_though_it_has_not_changed() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let reloads = || gateway.log().matches("the configuration was reloaded").count();
    assert_eq!(reloads(), 0);
    gateway.signal("HUP");
    eventually("the file was read", || reloads() == 1);
    assert_eq!(gateway.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
}

/// Returns the exit code and the output of `check`.
fn checked(gateway: &Gateway) -> (i32, String) {
    let out = gateway.command(&["check"]).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn check_opens_every_named_file_and_changes_nothing() {
    let now = sitegate::clock::Clock::system().now();
    let pki = Pki::new("Test", now).unwrap();
    let leaf = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    let other = pki.issue(&Order::fit(&["other.contoso.com"], now)).unwrap();
    let day = jiff::SignedDuration::from_hours(24);
    let times = (now.checked_sub(day).unwrap(), now.checked_add(day).unwrap());
    let crl = pki.crl(&[], times.0, times.1).unwrap();
    let old = pki.crl(&[], times.0.checked_sub(day).unwrap(), times.0).unwrap();
    let pfx = pfx((&leaf.chain, leaf.key.as_str()), "secret", Protection::Modern, 1000).unwrap();
    let keys = "client_certificate = \"request\"\nclient_ca = \"clients.pem\"\n\
                client_crl = \"clients.crl\"\nbackend_ca = \"backend.pem\"\n\
                pki_password = \"file:password\"";
    let issuer = "[[token_issuer]]\nname = \"entra\"\nkind = \"entra\"\n\
                  tenant = \"72f988bf-86f1-41af-91ab-2d7cd011db47\"\n\
                  audiences = [\"https://ConfigMgrService\"]\nkeys = \"keys.json\"\n";
    let plan = Plan::to("https://127.0.0.1:1").site_system(keys).after(issuer);
    let gateway = Gateway::prepare(plan);
    let key_set =
        jwks(&[TokenSigner::from_pkcs8(&TokenSigner::generate(SignerKind::P256).unwrap(), None)
            .unwrap()])
        .to_string();
    let put = |name: &str, bytes: &[u8]| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(gateway.path(name), bytes).unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(gateway.path(name), private).unwrap();
    };
    let good: [(&str, &[u8]); 9] = [
        ("pki/tls.crt", leaf.chain.as_bytes()),
        ("pki/tls.key", leaf.key.as_bytes()),
        ("pki/ca.crt", pki.root().as_bytes()),
        ("password", b"secret\n"),
        ("clients.pem", pki.root().as_bytes()),
        ("clients.crl", crl.as_bytes()),
        ("backend.pem", pki.root().as_bytes()),
        ("keys.json", key_set.as_bytes()),
        ("pki/other.pfx", &pfx),
    ];
    let all_good = || good.iter().for_each(|(name, bytes)| put(name, bytes));
    all_good();
    let (code, text) = checked(&gateway);
    assert_eq!(code, 0, "{text}");
    for wanted in [
        "gateway.toml: good\n",
        "serves pki:",
        "names       mp01.contoso.com",
        "client certificates by 1 authorities and 1 CRLs",
        "backend.pem can be used",
        "token issuer entra:\n    1 usable keys",
    ] {
        assert!(text.contains(wanted), "'{wanted}' is not in\n{text}");
    }
    let cases: [(&str, &[u8], &[&str]); 9] = [
        ("pki/tls.key", other.key.as_bytes(), &["/pki: ", "key_mismatch"]),
        ("pki/tls.crt", other.chain.as_bytes(), &["/pki: "]),
        ("pki/ca.crt", b"-----BEGIN CERTIFICATE-----\n", &["/pki: "]),
        ("password", b"wrong", &["/pki: ", "other.pfx", "password"]),
        ("pki/tls.ocsp", b"nothing", &["/pki: the OCSP response is not stapled"]),
        ("clients.pem", b"nothing", &["clients.pem: "]),
        ("clients.crl", old.as_bytes(), &["clients.crl: a CRL has expired"]),
        ("backend.pem", b"nothing", &["backend.pem: no certificate in it, as PEM, DER or PKCS#7"]),
        ("keys.json", b"{\"keys\": [{\"kty\": \"oct\"}]}", &["keys.json"]),
    ];
    for (name, bytes, wanted) in cases {
        all_good();
        put(name, bytes);
        let (code, text) = checked(&gateway);
        assert_eq!(code, 1, "{name}: {text}");
        let wrong: Vec<&str> = text.lines().filter(|line| line.contains("WRONG: ")).collect();
        for wanted in wanted {
            assert!(wrong.iter().any(|w| w.contains(wanted)), "{name}: '{wanted}' not in\n{text}");
        }
        std::fs::remove_file(gateway.path(name)).unwrap();
    }
    // Without the pair the PFX is used.
    all_good();
    for name in ["pki/tls.crt", "pki/tls.key"] {
        std::fs::remove_file(gateway.path(name)).unwrap();
    }
    let (code, text) = checked(&gateway);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("serves pki:"), "{text}");
    std::fs::remove_file(gateway.path("pki/other.pfx")).unwrap();
    let (code, text) = checked(&gateway);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("serves a site-issued certificate"), "{text}");
    let only = gateway.config_text().replace("[admin]", "certificates = \"pki-only\"\n[admin]");
    gateway.write_config(&only);
    let (code, text) = checked(&gateway);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("every TLS handshake will fail"), "{text}");
    assert!(!gateway.path("state").exists(), "nothing is made by looking");
    let secret = leaf.key.lines().nth(1).unwrap();
    assert!(!text.contains(secret) && !text.contains("secret"), "{text}");
}

#[test]
fn config_diff_lists_changed_keys_and_needed_restarts() {
    let gateway = Gateway::prepare(Plan::to("http://127.0.0.1:80"));
    let text = gateway.config_text();
    let diff = |new: &str, args: &[&str]| {
        std::fs::write(gateway.path("new.toml"), new).unwrap();
        let path = gateway.path("new.toml");
        let mut command = gateway.command(&[&["config", "diff"], args].concat());
        let out = command.arg(path).output().unwrap();
        let told = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8(told).unwrap())
    };
    assert_eq!(diff(&text, &[]), (Some(0), "No key differs.\n".to_owned()));
    let live = text.replace("127.0.0.1:80\"", "127.0.0.1:8080\"") + "http2 = false\n";
    let (code, told) = diff(&live, &[]);
    assert_eq!(code, Some(0));
    for wanted in [
        "site_system[mp01].backend (reload)\n  - \"http://127.0.0.1:80\"\n  + \"http://127.0.0.1:8080\"\n",
        "site_system[mp01].http2 (reload)\n  + false\n",
        "A reload applies all of it as soon as the file is in place.\n",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let fixed = text.replace("state = \"state\"", "state = \"other\"") + "http2 = false\n";
    let (_, json) = diff(&fixed, &["--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows["restart"], serde_json::json!(["[site]"]));
    let takes = |n: usize| (rows["keys"][n]["key"].clone(), rows["keys"][n]["takes"].clone());
    assert_eq!(takes(0), ("site.state".into(), "restart".into()));
    assert_eq!(takes(1), ("site_system[mp01].http2".into(), "reload".into()));
    // A value derived from another key needs a restart, although that key does not.
    let other = text.replace(Gateway::HOST, "mp02.contoso.com");
    let (_, told) = diff(&other, &[]);
    assert!(told.contains("Only a restart changes: [site]."), "{told}");
    // A different spelling of the same value is still listed.
    let words = text.replace("state = \"state\"", "state = \"./state\"");
    assert!(diff(&words, &[]).1.contains("site.state"));
    let (code, told) = diff(&text.replace("hosts", "host"), &[]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("new.toml:"), "{told}");
}
