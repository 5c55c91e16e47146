//! Observe mode: a request passes, and is logged, if only its token or route speaks against it. The
//! mode ends at its time. Checks that protect the backend stay in force.

use std::sync::Arc;

use sitegate::app::{Options, launch};
use sitegate::clock::{Clock, second};
use sitegate::config;

use crate::backends::Echo;
use crate::messages::{
    LOCATION, POLICY as POLICY_MESSAGE, SITE, UPDATE_SF, args, asking, injected_payload, message,
    sending,
};
use crate::plain_http;
use crate::support::{
    Answer, DEVICE, Gateway, Nginx, Plan, Scribe, connect, eventually, free_port, status_of,
};

const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";
const DAY: i64 = 86_400;

/// Shows a request's credentials and the gateway's own fields.
const ECHO: &str = r#"location ~* ^/(reports|unknown|certified|user|closed|small|strange)/ {
  return 200 "device=[$http_sitegate_device] issuer=[$http_sitegate_issuer] authorization=[$http_authorization] said=[$http_sitegate_user]\n"; }"#;

const ROUTES: &str = r#"
[[site_system.route]]
path = "/certified/"
require = "certificate"
[[site_system.route]]
path = "/user/"
require = "user"
[[site_system.route]]
path = "/closed/"
require = "deny"
methods = ["GET"]
[[site_system.route]]
path = "/small/"
require = "device"
methods = ["POST"]
body_bytes = 8
"#;

fn in_days(days: i64) -> String {
    second(Clock::system().now().as_second() + days * DAY).to_string()
}

fn plan(nginx: &Nginx, until: &str) -> Plan {
    Plan::to(&nginx.url())
        .site_system(&format!("mode = \"observe\"\nobserve_until = {until}"))
        .site_system("client_certificate = \"request\"\nclient_ca = \"clients.pem\"")
        .after(ROUTES)
}

fn prepared(nginx: &Nginx, until: &str) -> Gateway {
    let mut gateway = Gateway::prepare(plan(nginx, until));
    let pki = sitegate_forge::Pki::new("Clients", Clock::system().now()).unwrap();
    std::fs::write(gateway.path("clients.pem"), pki.root()).unwrap();
    std::fs::write(gateway.path("blocklist.toml"), "").unwrap();
    let text = gateway.config_text();
    gateway.write_config(&text.replace("[admin]", "blocklist = \"blocklist.toml\"\n[admin]"));
    gateway.launch();
    gateway.wait_until_ready();
    gateway
}

/// Returns the last line of the access log, once there are that many.
fn last(gateway: &Gateway, count: usize) -> serde_json::Value {
    eventually("the access log is written", || gateway.access().len() >= count);
    gateway.access().pop().unwrap()
}

const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2"];

#[test]
fn observed_denials_are_forwarded_without_identity() {
    let nginx = Nginx::with("", ECHO);
    let gateway = prepared(&nginx, &in_days(30));
    let device = format!("Authorization: Bearer {}", gateway.token());
    let forged = format!("{}AAAAAA", &device[..device.len() - 6]);
    let cases: [(&str, &[&str], &str); 8] = [
        ("/unknown/x", &[], "route.unknown"),
        ("/unknown/x", &["-X", "PUT", "-d", "x"], "route.unknown"),
        ("/user/x", &["-X", "DELETE"], "route.method"),
        ("/user/x", &[], "token.missing"),
        ("/user/x", &["-H", "Authorization: Bearer rubbish"], "token.malformed"),
        ("/user/x", &["-H", &forged], "token.signature"),
        ("/user/x", &["-H", &device], "user.token_required"),
        ("/certified/x", &["-H", &device], "certificate.missing"),
    ];
    let mut seen = 0;
    for protocol in PROTOCOLS {
        for (path, args, reason) in &cases {
            let spoofed =
                ["-H", "Sitegate-User: administrator", "-H", "X-Forwarded-For: 192.0.2.9"];
            let answer = gateway.curl(path, &[&[protocol][..], &spoofed, args].concat());
            seen += 1;
            assert_eq!(answer.status, 200, "{protocol} {path} {reason}: {}", answer.text());
            let came = args.iter().find_map(|arg| arg.strip_prefix("Authorization: "));
            let told = format!(
                "device=[] issuer=[] authorization=[{}] said=[]\n",
                came.unwrap_or_default()
            );
            assert_eq!(answer.text(), told, "{protocol} {path} {reason}");
            let line = last(&gateway, seen);
            assert_eq!(
                (line["decision"].as_str(), line["reason"].as_str()),
                (Some("would-deny"), Some(*reason))
            );
            assert_eq!(line["status"], 200);
        }
    }
    assert!(nginx.seen().iter().all(|line| line.contains("xff=127.0.0.1")), "{:?}", nginx.seen());
    for (reason, count) in [("route.unknown", 4.0), ("certificate.missing", 2.0)] {
        let counted: f64 = gateway
            .get(gateway.metrics, "/metrics")
            .unwrap()
            .1
            .lines()
            .filter(|l| l.starts_with("sitegate_observed_denials_total") && l.contains(reason))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert_eq!(counted, count, "{reason}");
    }
    assert_eq!(gateway.metric("sitegate_denials_total"), 0.0);
    assert_eq!(gateway.metric("sitegate_observe_mode{site_system=\"mp01\"}"), 1.0);
    let status = gateway.status();
    assert_eq!(status["site_systems"][0]["observes"], true);
    gateway.assert_logged("observe");
    // A valid token is valid here too.
    let answer = gateway.curl("/SMS_MP/.sms_pol?x", &["-H", &device]);
    assert_eq!(answer.status, 200);
    let line = last(&gateway, seen + 1);
    assert_eq!(
        (line["decision"].as_str(), line["device"].as_str()),
        (Some("allowed"), Some(DEVICE))
    );
}

#[test]
fn observing_forwards_unlisted_requests_and_never_sql() {
    let backend = Echo::start();
    let port = free_port();
    let until = in_days(30);
    let gateway = Plan::to(&backend.url())
        .unguarded()
        .site_system(&format!("mode = \"observe\"\nobserve_until = {until}"))
        .after(&format!(
            "[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"pass\"\n"
        ))
        .start();
    let messages = [
        (asking(LOCATION, SITE), 200, "allowed", ""),
        (asking(LOCATION, UPDATE_SF), 200, "would-deny", "message.request"),
        (asking(LOCATION, &injected_payload()), 400, "denied", "message.payload"),
    ];
    let sender = "GUID:5E5A6A2C-1D2E-4F3A-8B4C-9D0E1F2A3B4C";
    let of_nobody = [
        (message(POLICY_MESSAGE, 900), 200, "would-deny", "token.missing"),
        (asking(LOCATION, UPDATE_SF), 200, "would-deny", "token.missing"),
        (message(&POLICY_MESSAGE.replace(sender, "'"), 9), 400, "denied", "message.source_id"),
        (asking(LOCATION, &injected_payload()), 400, "denied", "message.payload"),
    ];
    let queries = [
        ("/SMS_MP/.sms_aut?MPLIST", 200, "allowed", ""),
        ("/SMS_MP/.sms_aut?MPNEW", 200, "would-deny", "route.query"),
        ("/SMS_MP/.sms_aut?MPKEYINFORMATIONMEDIA", 200, "would-deny", "route.query"),
        ("/SMS_MP/.sms_aut?MPLIST%26x", 400, "denied", "path.query"),
    ];
    let mut seen = 0;
    let mut told = |answer: Answer, (status, decision, reason): (u16, &str, &str), what: &str| {
        seen += 1;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let line = last(&gateway, seen);
        let told = (line["decision"].as_str(), line["reason"].as_str().unwrap_or_default());
        assert_eq!(told, (Some(decision), reason), "{what}");
    };
    for protocol in [&["--http1.1"][..], &["--http2"], &["--http1.0", "--no-alpn"]] {
        for (body, status, decision, reason) in &messages {
            let file = sending(&gateway, "message", body);
            let answer = gateway.curl("/CCM_System/request", &args(&file, protocol));
            told(answer, (*status, decision, reason), protocol[0]);
        }
        for (body, status, decision, reason) in &of_nobody {
            let file = sending(&gateway, "message", body);
            let answer = gateway.curl("/CCM_System_TokenAuth/request", &args(&file, protocol));
            told(answer, (*status, decision, reason), protocol[0]);
        }
        for (path, status, decision, reason) in &queries {
            told(gateway.curl(path, protocol), (*status, decision, reason), path);
        }
    }
    for protocol in ["--http1.1", "--http1.0"] {
        for (body, status, decision, reason) in &messages {
            let file = sending(&gateway, "message", body);
            let args = args(&file, &[protocol, "-H", "Expect:"]);
            let answer = plain_http::curl(port, "/CCM_System/request", &args);
            told(answer, (*status, decision, reason), "in clear");
        }
        for (path, status, decision, reason) in &queries {
            let answer = plain_http::curl(port, path, &[protocol]);
            told(answer, (*status, decision, reason), path);
        }
    }
}

#[test]
fn an_observed_message_gets_no_backend_account() {
    use std::os::unix::fs::PermissionsExt;
    let scribe = Scribe::start();
    let until = in_days(30);
    let plan = Plan::to(&scribe.url())
        .site_system(&format!("mode = \"observe\"\nobserve_until = {until}"))
        .after(
            "[site_system.backend_auth]\nbasic = \"file:account\"\n[site_system.alt_auth]\n\
             networks = [\"127.0.0.0/8\"]\nendpoints = [\"MP_LocationManager\"]\n",
        );
    let mut gateway = Gateway::prepare(plan);
    std::fs::write(gateway.path("account"), "gateway:sesame").unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(gateway.path("account"), mode).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    for protocol in PROTOCOLS {
        for path in ["/CCM_System_AltAuth/request", "/CCM_System/request"] {
            for (payload, lent) in [(SITE, true), (UPDATE_SF, false), (SITE, true)] {
                let body = asking(LOCATION, payload);
                let file = sending(&gateway, "message", &body);
                let answer = gateway.curl(path, &args(&file, &[protocol, "-H", "Expect:"]));
                assert_eq!(answer.status, 200, "{protocol} {path}");
                let written = scribe.last();
                assert_eq!(
                    written.fields("authorization").len(),
                    usize::from(lent),
                    "{protocol} {path}"
                );
                assert!(written.body == body, "{protocol} {path}: it changed");
            }
        }
    }
}

#[test]
fn windows_credentials_never_use_shared_connections() {
    let nginx = Nginx::with("", ECHO);
    let gateway = prepared(&nginx, &in_days(1));
    for protocol in PROTOCOLS {
        for scheme in ["Negotiate YII", "NTLM TlRM", "negotiate\tYII", "Kerberos x"] {
            let field = format!("Authorization: {scheme}");
            let answer = gateway.curl("/unknown/x", &[protocol, "-H", &field]);
            assert_eq!(answer.status, 200);
            assert!(
                answer.text().contains("authorization=[]"),
                "{protocol} {scheme}: {}",
                answer.text()
            );
        }
        let answer = gateway.curl("/unknown/x", &[protocol, "-H", "Authorization: Basic eDp5"]);
        assert!(answer.text().contains("authorization=[Basic eDp5]"), "{}", answer.text());
    }
}

#[test]
fn what_protects_the_backend_itself_stays_refused() {
    let nginx = Nginx::with("", ECHO);
    let gateway = prepared(&nginx, &in_days(30));
    let message = ["-X", "CCM_POST", "-d", "x"];
    let cases: [(&str, &[&str], &str); 15] = [
        ("/closed/x", &[], "route.denied"),
        // Nor with a method that the closed route does not list.
        ("/closed/x", &["-X", "PUT"], "route.method"),
        ("/SMS_MP_AltAuth/.sms_pol", &[], "route.alt_auth"),
        ("/SMS_MP_AltAuth/.sms_pol", &["-X", "POST"], "route.method"),
        ("/SMS_MP_WindowsAuth/.sms_pol", &[], "route.windows_auth"),
        // Closed by a role that this site system lacks.
        ("/AdminService/wmi/SMS_Site", &[], "route.unknown"),
        ("/CCM_System/request", &message, "message.malformed"),
        ("/CCM_System/request", &["-X", "POST", "-d", "x"], "route.method"),
        ("/CCM_System/request/x", &message, "route.unknown"),
        // With another method a message would pass unread.
        ("/CCM_System_TokenAuth/request", &["-X", "POST", "-d", "x"], "route.method"),
        ("/small/x", &["-X", "POST", "-d", "123456789"], "limit.body"),
        ("/unknown/..%2fx", &[], "path.ambiguous"),
        ("/unknown//x", &[], "path.ambiguous"),
        ("/unknown/x", &["-H", "Host: dp01.contoso.com"], "host.misdirected"),
        ("/unknown/x", &["-X", "TRACE"], "framing.method"),
    ];
    for protocol in PROTOCOLS {
        for (path, args, code) in &cases {
            let answer: Answer = gateway.curl(path, &[&[protocol][..], args].concat());
            assert_eq!(answer.code(), *code, "{protocol} {path} {args:?}: {}", answer.head);
        }
    }
    for (framing, text) in [
        (
            "both lengths",
            "GET /unknown/x HTTP/1.1\r\nHost: mp01.contoso.com\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("bare line feed", "GET /unknown/x HTTP/1.1\nHost: mp01.contoso.com\r\n\r\n"),
    ] {
        let mut wire = connect(&gateway);
        wire.send(text.as_bytes());
        assert_eq!(status_of(&wire.read_to_end()), 400, "{framing}");
    }
    nginx.assert_seen(0);
}

#[test]
fn a_blocked_device_stays_blocked_while_observing() {
    let nginx = Nginx::with("", ECHO);
    let gateway = prepared(&nginx, &in_days(30));
    let token = gateway.token();
    assert_eq!(gateway.curl_as(&token, "/unknown/x", &[]).status, 200);
    let list = format!("[[block]]\ndevice = \"{DEVICE}\"\n");
    std::fs::write(gateway.path("blocklist.new"), list).unwrap();
    std::fs::rename(gateway.path("blocklist.new"), gateway.path("blocklist.toml")).unwrap();
    eventually("the block is in force", || {
        gateway.curl_as(&token, POLICY, &[]).code() == "device.blocked"
    });
    for protocol in PROTOCOLS {
        for path in ["/unknown/x", "/certified/x", "/user/x", POLICY] {
            assert_eq!(
                gateway.curl_as(&token, path, &[protocol]).code(),
                "device.blocked",
                "{path}"
            );
        }
    }
}

#[test]
fn enforcing_resumes_by_itself_when_the_time_has_come() {
    let nginx = Nginx::with("", ECHO);
    let start = Clock::system().now();
    let (clock, hands) = Clock::manual(start);
    let until = second(start.as_second() + 600);
    let plan =
        Plan::to(&nginx.url()).site_system(&format!("mode = \"observe\"\nobserve_until = {until}"));
    let gateway = Gateway::prepare(plan);
    let path = gateway.path("gateway.toml");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let loaded = config::load(&path, start).unwrap();
    assert!(loaded.warnings.to_string().contains("would be denied are forwarded until"));
    let running = launch(loaded, Options { path, clock, provider, signals: false }).unwrap();
    let root = gateway.command(&["site", "export-root"]).output().unwrap();
    std::fs::write(gateway.path("root.pem"), root.stdout).unwrap();
    let ask = |protocol| gateway.curl("/unknown/x", &[protocol]);
    for (time, observes) in [(0, true), (599, true), (600, false), (601, false)] {
        hands.set(second(start.as_second() + time));
        for protocol in PROTOCOLS {
            let answer = ask(protocol);
            assert_eq!(answer.status == 200, observes, "{protocol} after {time} s");
            assert!(observes || answer.code() == "route.unknown");
        }
    }
    eventually("the gauge says so", || {
        gateway.metric("sitegate_observe_mode{site_system=\"mp01\"}") == 0.0
    });
    assert_eq!(gateway.status()["site_systems"][0]["observes"], false);
    running.stop();
    running.join().unwrap();
}

#[test]
fn an_observe_end_in_the_past_enforces() {
    let nginx = Nginx::with("", ECHO);
    let gateway = prepared(&nginx, &in_days(-1));
    assert_eq!(gateway.curl("/unknown/x", &[]).code(), "route.unknown");
    gateway.assert_logged("observe_until has passed");
    for (keys, fault) in [
        (format!("mode = \"observe\"\nobserve_until = {}", in_days(91)), "more than 90 days"),
        ("mode = \"observe\"".to_owned(), "needs an end"),
        ("mode = \"observe\"\nobserve_until = 2026-12-31".to_owned(), "offset from UTC"),
        (format!("observe_until = {}", in_days(1)), "without mode"),
        ("mode = \"watch\"".to_owned(), "unknown variant"),
        (
            format!(
                "mode = \"observe\"\nobserve_until = {}\nbackend = \"http://192.0.2.1\"",
                in_days(1)
            ),
            "over plain HTTP",
        ),
    ] {
        let backend =
            if keys.contains("backend") { "" } else { "backend = \"http://127.0.0.1:80\"" };
        let text = format!(
            "[site]\ncode = \"PS1\"\n[[site_system]]\nname = \"mp01\"\nlisten = \"127.0.0.1:1\"\nhosts = [\"mp01\"]\n{backend}\n{keys}\n"
        );
        let now = Clock::system().now();
        let errors = config::parse(&text, "x", std::path::Path::new("."), now).unwrap_err();
        assert!(errors.to_string().contains(fault), "{keys}: {errors}");
        let unset = second(10);
        let early = config::parse(&text, "x", std::path::Path::new("."), unset);
        let lets_start = fault == "more than 90 days";
        assert_eq!(early.is_ok(), lets_start, "before the clock is set: {keys}");
    }
}
