//! The findings of `doctor`, one fault after another, and no findings on a healthy machine.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use sitegate::clock::Clock;
use sitegate_forge::{LeafKey, Order, Pki, below_roots};

use crate::support::{Gateway, Idp, Liar, Nginx, Plan, Postgres, Signer, Then, free_port, key_set};

/// Returns the response for a method and a path.
pub type Answering = fn(&str, &str) -> String;

/// Starts a web server with one response for each method and path.
fn server(answer: Answering) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let _ = stream.write_all(answer(method, path).as_bytes());
        }
    });
    url
}

fn says(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

const LIST: &str = "<MPList><MP><Property Name=\"SSLState\" Value=\"0\"/></MP></MPList>";

/// Answers as a healthy site system should.
pub fn well(method: &str, path: &str) -> String {
    match (method, path) {
        ("GET", "/SMS_MP/.sms_aut?MPLIST") => says("200 OK", "", LIST),
        ("GET", "/CCM_Client/ccmsetup.cab") => says("206 Partial Content", "", "M"),
        ("CCM_POST", _) => says("400 Bad Request", "", ""),
        ("GET", "/CCM_System_WindowsAuth/request") => {
            says("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", "")
        }
        (_, path) if path.starts_with("/SMS_DP_SMSPKG$/") => says("401 Unauthorized", "", ""),
        _ => says("200 OK", "Allow: GET\r\n", ""),
    }
}

fn found(gateway: &Gateway) -> (Option<i32>, Vec<Value>) {
    let out = gateway.command(&["doctor", "--format", "json"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let rows = serde_json::from_str(&text);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code(), rows.unwrap_or_else(|_| panic!("{text}\n{told}")))
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// A configuration with this backend, and no gateway running.
pub fn patient(answer: Answering) -> Plan {
    Plan::to(&server(answer))
}

/// Returns the findings of a plan, without those that the test machine may cause.
fn of(plan: Plan) -> Vec<String> {
    let gateway = Gateway::prepare(plan);
    diagnosed(&gateway)
}

fn diagnosed(gateway: &Gateway) -> Vec<String> {
    let (_, rows) = found(gateway);
    let machine =
        ["doctor.not_running", "doctor.not_watchable", "doctor.watch_limit", "doctor.space"];
    let ids = ids(&rows).into_iter().filter(|id| !machine.contains(id));
    let mut ids: Vec<String> = ids.map(str::to_owned).collect();
    ids.dedup();
    ids
}

#[test]
fn where_nothing_is_amiss_nothing_is_found() {
    let gateway = Gateway::prepare(patient(well).site_system("windows_auth = true"));
    assert_eq!(diagnosed(&gateway), [""; 0]);
    let (exit, rows) = found(&gateway);
    assert_eq!(exit, Some(0), "{rows:?}");
    assert!(ids(&rows).contains(&"doctor.not_running"), "{rows:?}");
}

#[test]
fn what_a_backend_does_wrong_is_found() {
    let cases: [(Answering, &str); 9] = [
        (
            |method, path| match path {
                "/" => says("200 OK", "Date: Fri, 02 Jan 2026 03:04:05 GMT\r\n", ""),
                _ => well(method, path),
            },
            "doctor.clock_backend",
        ),
        (
            |method, path| {
                if path.starts_with("/SMS_MP/") {
                    says("404 Not Found", "", "")
                } else {
                    well(method, path)
                }
            },
            "doctor.backend_role",
        ),
        (
            |method, path| match method {
                "CCM_POST" => says("405 Method Not Allowed", "", ""),
                _ => well(method, path),
            },
            "doctor.backend_verb",
        ),
        (
            |method, path| match method {
                "PROPFIND" => says("405 Method Not Allowed", "", ""),
                _ => well(method, path),
            },
            "doctor.backend_verb",
        ),
        (
            |method, path| {
                if path.starts_with("/CCM_Client/") {
                    says("200 OK", "", "MSCF and all the rest")
                } else {
                    well(method, path)
                }
            },
            "doctor.backend_ranges",
        ),
        (
            |method, path| {
                if path.contains("WindowsAuth") {
                    says("200 OK", "", "")
                } else {
                    well(method, path)
                }
            },
            "doctor.backend_windows_auth",
        ),
        (
            |method, path| match (method, path.starts_with("/SMS_DP")) {
                ("GET", true) => says("404 Not Found", "", ""),
                _ => well(method, path),
            },
            "doctor.content_anonymous",
        ),
        (
            |method, path| {
                if path.starts_with("/SMS_MP/") {
                    says("403 Forbidden", "", "")
                } else {
                    well(method, path)
                }
            },
            "doctor.backend_forbids",
        ),
        (
            |method, path| {
                if path.starts_with("/SMS_MP/") {
                    says("200 OK", "", &LIST.replace("\"0\"", "\"63\""))
                } else {
                    well(method, path)
                }
            },
            "doctor.https_mode",
        ),
    ];
    for (answer, wanted) in cases {
        assert_eq!(of(patient(answer).site_system("windows_auth = true")), [wanted]);
    }
}

#[test]
fn a_backend_that_is_away_or_something_else_is_found() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(of(Plan::to(&nowhere)), ["doctor.backend_unreachable"]);
    assert_eq!(of(patient(|_, _| "SSH-2.0-x\r\n".to_owned())), ["doctor.backend_not_http"]);
    // Plain HTTP in place of https has no certificate to find fault with.
    let plain = crate::support::Scribe::start();
    let https = plain.url().replace("http://", "https://");
    assert_eq!(of(Plan::to(&https)), ["doctor.backend_not_http"]);
    let gateway = Gateway::prepare(
        patient(|method, path| match method {
            "OPTIONS" => says("401 Unauthorized", "WWW-Authenticate: Basic\r\n", ""),
            _ => well(method, path),
        })
        .after("[site_system.backend_auth]\nbasic = \"file:account\""),
    );
    std::fs::write(gateway.path("account"), "svc:wrong\n").unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(gateway.path("account"), mode).unwrap();
    assert_eq!(diagnosed(&gateway), ["doctor.backend_account"]);
    let stranger = Idp::start();
    let url = format!("https://localhost:{}", stranger.port);
    assert_eq!(of(Plan::to(&url)), ["doctor.backend_certificate"]);
}

#[test]
fn certificates_keys_and_secrets_are_found_wanting() {
    let now = Clock::system().now();
    let pki = Pki::new("Corporate", now).unwrap();
    let with = |order: &Order| {
        let gateway = Gateway::prepare(patient(well));
        let made = pki.issue(order).unwrap();
        gateway.write_pki(&made.chain, &made.key, pki.root());
        gateway
    };
    let good = |days: i64| {
        let until = now + jiff::SignedDuration::from_hours(24 * days);
        Order { until, ..Order::fit(&[Gateway::HOST], now) }
    };
    assert_eq!(diagnosed(&with(&good(90))), [""; 0]);
    assert_eq!(diagnosed(&with(&good(3))), ["doctor.certificate_ends"]);
    let other = Order::fit(&["dp09.contoso.com"], now);
    assert_eq!(diagnosed(&with(&other)), ["doctor.certificate"]);
    let rsa = Order { key: LeafKey::Rsa2048, ..good(90) };
    assert_eq!(diagnosed(&with(&rsa)), ["doctor.old_windows"]);

    let gateway = with(&good(90));
    std::fs::create_dir_all(gateway.path("state/token")).unwrap();
    let key = gateway.path("state/token/token.key");
    std::fs::write(&key, "").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(diagnosed(&gateway), ["doctor.site", "doctor.key_exposed"]);
}

#[test]
fn what_the_site_and_its_issuers_have_on_disk_is_found_wanting() {
    let gateway = Gateway::prepare(patient(well).site("seal = \"file:seal\""));
    assert_eq!(diagnosed(&gateway), ["doctor.site"]);
    let issuer = "[[token_issuer]]\nname = \"idp\"\nkind = \"oidc\"\nissuer = [\"https://idp.contoso.com\"]\n\
                  audiences = [\"x\"]\nuser_claim = \"sub\"\nkeys = \"keys.json\"";
    let gateway = Gateway::prepare(patient(well).after(issuer));
    std::fs::write(gateway.path("keys.json"), "{\"keys\":[]}").unwrap();
    assert_eq!(diagnosed(&gateway), ["doctor.issuer_files"]);
}

#[test]
fn the_certificate_that_is_served_is_compared_with_the_files() {
    let gateway = patient(well).sections("[limits]\nconnections = 100").start();
    assert_eq!(diagnosed(&gateway), [""; 0]);
    let port = format!("127.0.0.1:{}", gateway.port);

    // Another program listens on the address.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = held.local_addr().unwrap();
    let text = gateway.config_text().replace(&port, &at.to_string());
    let other = gateway.path("other.toml");
    std::fs::write(&other, text).unwrap();
    let doctor = |file: &std::path::Path| {
        let mut command = Command::new(crate::support::BINARY);
        let out = command.args(["doctor", "--config"]).arg(file).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let (exit, told) = doctor(&other);
    assert_eq!(exit, Some(1));
    assert!(told.contains("ERROR doctor.port_taken (mp01)"), "{told}");
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");

    // The files of one site system, and the process of another.
    let now = Clock::system().now();
    let pki = Pki::new("Corporate", now).unwrap();
    let made = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    let folder = gateway.path("elsewhere");
    std::fs::create_dir(&folder).unwrap();
    crate::support::write_pair(&folder, &made.chain, &made.key, pki.root());
    let text = gateway.config_text().replace("pki = \"pki\"", "pki = \"elsewhere\"");
    std::fs::write(&other, text).unwrap();
    let (_, told) = doctor(&other);
    assert!(told.contains("doctor.other_certificate"), "{told}");

    // A process with a low limit on open files.
    gateway.limit("--nofile=150:150");
    assert_eq!(diagnosed(&gateway), ["doctor.descriptor_limit"]);
}

#[test]
fn issuers_that_are_away_or_live_in_another_time_are_found() {
    let idp = Idp::start();
    let keys = key_set(&[&Signer::new()]);
    let issuer = format!(
        "[[token_issuer]]\nname = \"idp\"\nkind = \"oidc\"\nissuer = [\"https://idp.example\"]\n\
         audiences = [\"x\"]\nuser_claim = \"sub\"\nkeys = \"{}\"\nkey_ca = \"idp.pem\"\n\
         private_hosts = [\"localhost\"]",
        idp.url("/keys")
    );
    let gateway = Gateway::prepare(patient(well).after(&issuer));
    std::fs::write(gateway.path("idp.pem"), &idp.root).unwrap();
    idp.answer("/keys", says("404 Not Found", "", "").into_bytes());
    assert_eq!(diagnosed(&gateway), ["doctor.issuer_unreachable"]);
    let late = "Date: Fri, 02 Jan 2026 03:04:05 GMT\r\n";
    idp.answer("/keys", says("200 OK", late, &keys).into_bytes());
    assert_eq!(diagnosed(&gateway), ["doctor.clock_issuer"]);
    idp.answer("/keys", says("200 OK", "", &keys).into_bytes());
    assert_eq!(diagnosed(&gateway), [""; 0]);
}

#[test]
fn a_listener_that_shakes_no_hands_is_found() {
    // A site that issues no certificate, and an empty PKI folder.
    let plan = patient(well).sections("[limits]\nconnections = 100");
    let mut gateway = Gateway::prepare(plan.site("certificates = \"pki-only\""));
    gateway.launch();
    crate::support::eventually("it listens", || gateway.get(gateway.metrics, "/livez").is_some());
    let ids = diagnosed(&gateway);
    assert_eq!(ids, ["doctor.certificate", "doctor.handshake"]);
}

#[test]
fn doctor_finds_unwatchable_folders_and_low_space() {
    if !crate::machine::can_mount() {
        return;
    }
    let gateway = Gateway::prepare(patient(well));
    let few = "echo 8 >few && mount --bind few /proc/sys/fs/inotify/max_user_instances";
    let deaf = "mkdir -p disk pki && mount -t tmpfs none disk && mkdir disk/a disk/b disk/c && \
                mount -t overlay -o lowerdir=disk/a,upperdir=disk/b,workdir=disk/c none pki";
    let little = "mkdir -p state && mount -t tmpfs -o size=8m none state";
    for (mount, wanted, says) in [
        (few, "doctor.watch_limit", "max_user_instances 8"),
        (deaf, "doctor.not_watchable", "overlay"),
        (little, "doctor.space", "8 MB are free on the file system of the state directory"),
    ] {
        let script = format!("{mount} && exec \"$0\" \"$@\"");
        let doctor = gateway.command(&["doctor", "--format", "json"]);
        let mut within = Command::new("unshare");
        within.args(["-m", "sh", "-c", &script]).arg(doctor.get_program()).args(doctor.get_args());
        let out = within.current_dir(gateway.dir.path()).output().unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
        let row = rows.iter().find(|row| row["id"] == wanted);
        let row = row.unwrap_or_else(|| panic!("{wanted}: {rows:?}"));
        let evidence = row["evidence"].as_str().unwrap();
        assert!(evidence.contains(says), "{row}");
        assert_ne!(row["severity"], "error", "{row}");
    }
}

#[test]
fn a_database_that_cannot_be_used_is_found_with_the_reason() {
    let (mut postgres, nginx) = (Postgres::start(), Nginx::start());
    let gateway = crate::store_health::at(&postgres, &nginx);
    let findings = || -> Vec<Value> {
        let rows = found(&gateway).1.into_iter();
        rows.filter(|row| row["id"] == "doctor.store").collect()
    };
    assert_eq!(findings(), Vec::<Value>::new());
    postgres.stop();
    let rows = findings();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0]["evidence"].as_str().unwrap().contains("store.unreachable"), "{rows:?}");
}

#[test]
fn a_site_server_with_another_clock_or_none_is_found() {
    use crate::site_server::{Server, joined};
    let nginx = Nginx::start();
    let server = Server::planned(&nginx.url(), "", "", |_| {}, &crate::lasting::clock("-10m"));
    let gateway = joined(&nginx.url(), "gw1", &server);
    let about = |wanted: &str| {
        let out = gateway.command(&["doctor", "--format", "json"]).output().unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
        rows.iter().any(|row| row["id"] == wanted && row["about"] == "gw1")
    };
    // The next response includes the time, so the clocks are compared.
    server.said(&["site", "block", "--user", "mallory"]);
    crate::support::eventually("its clock", || about("doctor.clock_site_server"));
    assert!(!about("doctor.site_server"));
    drop(server);
    crate::support::eventually("it is away", || about("doctor.site_server"));
}

#[test]
fn doctor_reports_a_backend_the_gateway_finds_failing() {
    let liar = Liar::start(|_, _| (Vec::new(), Then::Close));
    let gateway = liar.plan().start();
    for _ in 0..3 {
        gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[]);
    }
    let out = gateway.command(&["doctor"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("doctor.backend_fails"), "{text}");
    assert!(text.contains("upstream.closed"), "{text}");
}

/// Creates a root that ends in this many days.
fn root_ending_in(days: i64) -> String {
    let now = Clock::system().now();
    let after = |days: i64| now + jiff::SignedDuration::from_hours(days * 24);
    let dates = [(after(-300), after(days))];
    below_roots(&dates, &Order::fit(&["localhost"], now)).unwrap().0.remove(0)
}

#[test]
fn an_authority_that_ends_soon_is_found_wherever_it_is_named() {
    let issuer = "[[token_issuer]]\nname = \"idp\"\nkind = \"oidc\"\nissuer = \"https://idp.invalid\"\n\
                  audiences = [\"x\"]\ndevice_claim = \"sub\"\nkeys = \"https://idp.invalid/keys\"\n\
                  key_ca = \"ca.pem\"\n";
    for (place, plan) in [
        (
            "client_ca",
            patient(well).site_system("client_certificate = \"request\"\nclient_ca = \"ca.pem\""),
        ),
        ("backend_ca", Plan::to("https://127.0.0.1:1").site_system("backend_ca = \"ca.pem\"")),
        ("key_ca", patient(well).after(issuer)),
    ] {
        let gateway = Gateway::prepare(plan);
        std::fs::write(gateway.path("ca.pem"), root_ending_in(29)).unwrap();
        assert!(diagnosed(&gateway).contains(&"doctor.authority_ends".to_owned()), "{place}");
        std::fs::write(gateway.path("ca.pem"), root_ending_in(31)).unwrap();
        assert!(!diagnosed(&gateway).contains(&"doctor.authority_ends".to_owned()), "{place}");
    }
}
