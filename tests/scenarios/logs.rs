//! The log and the access log, in each format, and traces.

use crate::support::{Gateway, Nginx, Plan, connect, eventually};
use sitegate::clock::Clock;
use sitegate_forge::{Order, Pki};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";

fn read(gateway: &Gateway, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(gateway.path(name)).unwrap_or_default()).into_owned()
}

/// Requests that would inject lines or words into a log without escaping.
fn send_odd_requests(gateway: &Gateway) -> usize {
    let odd = [
        "GET /x\u{b}y?secret=1 HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n",
        "GET /a%0a2026-01-01%20forged?secret=1 HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n",
        "GET /\u{e9}\u{2028}\"\\ HTTP/1.1\r\nHost: mp01.contoso.com\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: mp01.contoso.com\r\nUser-Agent: a\tb \"c\" \u{85}\\\r\n\r\n",
    ];
    for request in odd {
        let mut wire = connect(gateway);
        wire.send(request.as_bytes());
        let _ = wire.read_answer();
    }
    let agent = "User-Agent: sms client 5.0 \"q\" \u{e9}";
    assert_eq!(gateway.curl(&format!("{OPEN}?secret=1"), &["-H", agent]).status, 200);
    odd.len() + 1
}

#[test]
fn one_request_is_one_line_in_every_access_log_format() {
    let nginx = Nginx::start();
    for (format, heads, words, open) in [
        ("w3c", 4, Some(14), format!(" GET {OPEN} - ")),
        ("combined", 0, None, format!("] \"GET {OPEN} HTTP/2\" 200 ")),
    ] {
        let plan = Plan::to(&nginx.url()).sections(&format!("access_format = \"{format}\""));
        let gateway = plan.start();
        let count = send_odd_requests(&gateway) + heads;
        let log = || read(&gateway, "access.log");
        eventually("the lines are written", || log().matches('\n').count() >= count);
        let text = log();
        assert_eq!(text.matches('\n').count(), count, "{text}");
        let lines: Vec<&str> = text.lines().skip(heads).collect();
        for line in &lines {
            assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line}");
            assert!(words.is_none_or(|words| line.split(' ').count() == words), "{line}");
            assert!(words.is_some() || line.matches('"').count() == 6, "{line}");
        }
        assert!(lines.last().unwrap().contains(&open), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert!(words.is_none() || text.contains("#Fields: date time s-ip "), "{text}");
        assert!(words.is_none() || text.contains(&format!(" - {} - 127.0.0.1 ", gateway.port)));
        // As logrotate's copytruncate leaves it.
        std::fs::File::create(gateway.path("access.log")).unwrap();
        assert_eq!(gateway.curl(OPEN, &[]).status, 200);
        eventually("the next line is written", || log().matches('\n').count() == heads + 1);
        assert_eq!(log().matches('#').count(), heads, "{}", log());
        assert!(heads == 0 || log().starts_with("#Software"), "{}", log());
    }
}

#[test]
fn cmtrace_logs_have_each_certificate_change() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).sections("cmtrace = \"logs\"").start();
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let pair = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    let thumbprint = || gateway.status()["site_systems"][0]["certificate"]["thumbprint"].clone();
    let before = thumbprint();
    gateway.write_pki(&pair.chain, &pair.key, pki.root());
    eventually("the PKI's certificate is served", || thumbprint() != before);
    let bound = |thumbprint: serde_json::Value| {
        let thumbprint = thumbprint.as_str().unwrap().to_owned();
        format!("<![LOG[Bound certificate {thumbprint} to port {} ", gateway.port)
    };
    let certificates = || read(&gateway, "logs/certificate.log");
    eventually("both are told of", || {
        let text = certificates();
        text.contains(&bound(before.clone())) && text.contains(&bound(thumbprint()))
    });
    eventually("the own port is asked", || {
        let text = read(&gateway, "logs/selfcheck.log");
        text.contains("Http test request succeeded, status code is 200, 'OK'")
    });
    eventually("it was a request", || {
        gateway.access().iter().any(|line| line["user_agent"] == "sitegate-selfcheck")
    });
    for line in certificates().lines().chain(read(&gateway, "logs/sitegate.log").lines()) {
        let (_, after) = line.split_once("]LOG]!><time=\"").unwrap();
        for field in ["\" date=\"", "\" component=\"", "\" context=\"\" type=\"", "\" thread=\""] {
            assert!(after.contains(field), "{line}");
        }
        assert!(line.starts_with("<![LOG[") && line.ends_with("\" file=\"\">"), "{line}");
    }
}

#[test]
fn an_unwritable_log_folder_loses_lines_and_no_request() {
    let nginx = Nginx::start();
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()).sections("cmtrace = \"logs\""));
    std::fs::write(gateway.path("logs"), "in the way").unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    gateway.signal("HUP");
    let lost = "sitegate_log_dropped_lines_total{log=\"cmtrace\",reason=\"write_failed\"}";
    eventually("what was lost is counted", || gateway.metric(lost) > 0.0);
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    std::fs::remove_file(gateway.path("logs")).unwrap();
    eventually("writing goes on by itself", || {
        gateway.signal("HUP");
        read(&gateway, "logs/config.log").contains("the configuration was reloaded")
    });
}

#[test]
fn only_journald_gets_line_priorities() {
    let nginx = Nginx::start();
    for (named, is_journal) in [("$(stat -L -c %d:%i /proc/self/fd/2)", true), ("1:1", false)] {
        // In a subshell standard error is the same, and standard output is not.
        let first = format!("export JOURNAL_STREAM={named}");
        let gateway = Plan::to(&nginx.url()).first(&[], &first).start();
        let mut broken = gateway.config_text();
        broken.push_str("nonsense = true\n");
        gateway.write_config(&broken);
        let refused = "the configuration was not reloaded";
        eventually("a reload is refused", || gateway.log().contains(refused));
        let log = gateway.log();
        assert!(log.contains("listening"), "{log}");
        for line in log.lines() {
            let marked = line.starts_with('<') && line.as_bytes()[2] == b'>';
            assert_eq!(marked, is_journal, "{line}");
            if is_journal {
                let wanted = if line.contains(refused) { "<3>" } else { "<" };
                assert!(line.starts_with(wanted) && line[3..].starts_with("sitegate"), "{line}");
            }
        }
    }
}

#[test]
fn a_trace_is_continued_only_where_it_is_trusted() {
    let echo = "location /traced/ { return 200 \"$http_traceparent [$http_tracestate]\\n\"; }";
    let nginx = Nginx::with("", echo);
    let route = "[[site_system.route]]\npath = \"/traced/\"\nrequire = \"anonymous\"";
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    for trusts in [true, false] {
        let plan = Plan::to(&nginx.url()).after(route);
        let gateway = plan.site_system(&format!("trust_traceparent = {trusts}")).start();
        for protocol in ["--http1.1", "--http2"] {
            let ask = |value: &str| {
                let trace = format!("traceparent: {value}");
                let answer =
                    gateway.curl("/traced/x", &[protocol, "-H", &trace, "-H", "tracestate: a=b"]);
                assert_eq!(answer.status, 200, "{}", answer.text());
                answer.text()
            };
            let told = ask(given);
            assert_eq!(told.starts_with(&given[..36]), trusts, "{protocol} {told}");
            assert!(!told.contains(&given[36..52]) && told.ends_with(" []\n"), "{protocol} {told}");
            assert_eq!(told.split('-').nth(3), Some(if trusts { "00 []\n" } else { "01 []\n" }));
            for bad in [&given.to_ascii_uppercase(), "00-0-0-00", "ff"] {
                let told = ask(bad);
                let is_ours = told.len() == 55 + 4 && told.ends_with("-01 []\n");
                assert!(is_ours && !told.contains(&given[3..35]), "{protocol} {bad}: {told}");
            }
        }
    }
}
