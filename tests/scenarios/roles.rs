//! Site systems of every role: the destinations of their requests, and the credentials.

use std::process::Command;

use crate::plain_http;
use crate::support::{BINARY, Plan, Scribe, eventually, free_port};

#[test]
fn each_role_may_have_a_backend_of_its_own_on_one_address() {
    let (mp, dp, fsp) = (Scribe::start(), Scribe::start(), Scribe::start());
    let mut plan = Plan::to(&mp.url());
    plan.roles = r#"["management-point", "distribution-point", "fallback-status-point"]"#;
    let more = format!(
        "[[site_system.role_backend]]\nrole = \"distribution-point\"\nbackend = \"{}\"\n\
         [[site_system.role_backend]]\nrole = \"fallback-status-point\"\nbackend = \"{}\"\n\
         [[site_system.route]]\npath = \"/extra/\"\nrequire = \"anonymous\"\n\
         role = \"distribution-point\"\n",
        dp.url(),
        fsp.url()
    );
    let gateway = plan.after(&more).start();
    let token = gateway.token();
    for version in ["--http1.1", "--http2"] {
        for (path, args) in [
            ("/SMS_MP/.sms_aut?MPLIST", &[version][..]),
            ("/SMS_DP_SMSPKG$/PS100001/x", &[version]),
            ("/extra/x", &[version]),
            ("/SMS_FSP/.sms_fsp", &[version, "-d", "x"]),
        ] {
            assert_eq!(gateway.curl_as(&token, path, args).status, 200, "{path}");
        }
    }
    let lines = |scribe: &Scribe| scribe.lines();
    assert_eq!(lines(&mp), ["GET /SMS_MP/.sms_aut?MPLIST HTTP/1.1"; 2]);
    let of_dp = ["GET /SMS_DP_SMSPKG$/PS100001/x HTTP/1.1", "GET /extra/x HTTP/1.1"];
    assert_eq!(lines(&dp), [of_dp, of_dp].concat());
    assert_eq!(lines(&fsp), ["POST /SMS_FSP/.sms_fsp HTTP/1.1"; 2]);
    let status = gateway.status();
    let shown = &status["site_systems"][0]["role_backends"];
    assert_eq!(shown["distribution-point"], dp.url());
    // A reload changes the destination.
    let other = Scribe::start();
    gateway.write_config(&gateway.config_text().replace(&dp.url(), &other.url()));
    eventually("the other backend is asked", || {
        gateway.curl("/extra/x", &[]).status == 200 && !other.lines().is_empty()
    });
}

#[test]
fn a_backend_for_a_missing_role_is_an_error() {
    let gateway = crate::support::Gateway::prepare(Plan::to("http://127.0.0.1:80"));
    let text = gateway.config_text();
    for (more, wanted) in [
        (
            "role = \"software-update-point\"\nbackend = \"http://127.0.0.1:8530\"",
            "is not a role of",
        ),
        ("role = \"distribution-point\"", "backend of a role_backend is missing"),
        ("backend = \"http://127.0.0.1:8530\"", "role of a role_backend is missing"),
        ("role = \"distribution-point\"\nbackend = \"ftp://x\"", "'ftp://x' is not a backend"),
        (
            "role = \"distribution-point\"\nbackend = \"http://dp.contoso.com\"",
            "forwards tokens to http://dp.contoso.com over plain HTTP",
        ),
    ] {
        gateway.write_config(&format!("{text}\n[[site_system.role_backend]]\n{more}\n"));
        let out = gateway.command(&["check"]).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(78), "{more}: {told}");
        assert!(told.contains(wanted), "{more}: {told}");
    }
}

#[test]
fn a_role_is_explained_in_text_and_in_json() {
    let run = |args: &[&str]| {
        let out = Command::new(BINARY).args(["config", "explain"]).args(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, text) = run(&["software-update-point"]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("sup-client                   /clientwebservice/\n    anonymous\n"));
    assert!(text.ends_with("Every other path is denied.\n"));
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let (_, json) = run(&["management-point", "--format", "json"]);
    let routes: serde_json::Value = serde_json::from_str(&json).unwrap();
    let poll = routes.as_array().unwrap().iter().find(|r| r["name"] == "mp-notification").unwrap();
    assert_eq!(poll["answer_seconds"], 1200);
    assert_eq!(poll["purposes"], serde_json::json!(["client"]));
    let token = routes.as_array().unwrap().iter().find(|r| r["name"] == "mp-token-policy").unwrap();
    assert_eq!((&token["token"], &token["translated"]), (&"forward".into(), &"/SMS_MP".into()));
    let (_, all) = run(&[]);
    for role in sitegate::route::Role::ALL {
        assert!(all.contains(&format!("# {}\n", role.as_str())), "{role:?}");
    }
    assert_eq!(run(&["management-pont"]).0, Some(1));
}

/// The client protocols.
const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2"];

#[test]
fn token_namespaces_are_translated_and_nothing_else_changes() {
    let scribe = Scribe::start();
    let gateway = Plan::to(&scribe.url()).site_system("upstream = \"translate\"").start();
    let token = gateway.token();
    for protocol in PROTOCOLS {
        for (path, sent) in [
            ("/SMS_MP_TokenAuth/.sms_pol?{A}.1_00", "/SMS_MP/.sms_pol?{A}.1_00"),
            ("/sms_mp_TOKENAUTH/.sms_aut?MPLIST", "/SMS_MP/.sms_aut?MPLIST"),
            (
                "/CCMTOKENAUTH_SMS_DP_SMSPKG$/PS1/a%20b/%c3%A4.Msi?x=%zz",
                "/SMS_DP_SMSPKG$/PS1/a%20b/%c3%A4.Msi?x=%zz",
            ),
            ("/ccmtokenauth_sms_dp_smssig$/X.1.tar", "/SMS_DP_SMSSIG$/X.1.tar"),
            // Neither has a counterpart.
            ("/SMS_MP/.sms_pol?x", "/SMS_MP/.sms_pol?x"),
            ("/CCM_STS/x", "/CCM_STS/x"),
        ] {
            let answer = gateway.curl_as(&token, path, &[protocol, "-g"]);
            assert_eq!(answer.status, 200, "{protocol} {path}: {answer:?}");
            let written = scribe.last();
            assert_eq!(written.line(), format!("GET {sent} HTTP/1.1"), "{protocol}");
            let forwards = path == "/CCM_STS/x";
            assert_eq!(written.fields("authorization").len(), usize::from(forwards), "{path}");
        }
        let before = scribe.all().len();
        let nobody = gateway.curl("/SMS_MP_TokenAuth/.sms_pol?x", &[protocol]);
        assert_eq!((nobody.status, &*nobody.code()), (401, "token.missing"));
        let method = gateway.curl_as(&token, "/SMS_MP_TokenAuth/.sms_pol", &[protocol, "-d", "x"]);
        assert_eq!((method.status, &*method.code()), (405, "route.method"));
        assert_eq!(scribe.all().len(), before, "a denied request reaches nobody");
    }
    eventually("the log has the path as it came", || {
        gateway.access().iter().any(|line| line["path"] == "/sms_mp_TOKENAUTH/.sms_aut")
    });
}

#[test]
fn the_backend_is_sent_the_names_that_were_judged() {
    let scribe = Scribe::start();
    let gateway = Plan::to(&scribe.url()).site_system("upstream = \"translate\"").start();
    let token = gateway.token();
    for protocol in PROTOCOLS {
        for (path, sent) in [
            ("/SMS_DP_SMSPKG%24/PS1/a%20b?%24=%2e", "/SMS_DP_SMSPKG$/PS1/a%20b?%24=%2e"),
            ("/CCMTOKENAUTH_SMS_DP_SMSPKG%24/PS1/a%2Db", "/SMS_DP_SMSPKG$/PS1/a-b"),
            ("/%53MS_MP/%2esms_pol?x", "/SMS_MP/.sms_pol?x"),
            (
                "/SMS_DP_SMSPKG$/PS1/%25AppData%25/a;b.txt",
                "/SMS_DP_SMSPKG$/PS1/%25AppData%25/a;b.txt",
            ),
        ] {
            let nobody = gateway.curl(path, &[protocol, "-g", "--path-as-is"]);
            assert_eq!(
                (nobody.status, &*nobody.code()),
                (401, "token.missing"),
                "{protocol} {path}"
            );
            let answer = gateway.curl_as(&token, path, &[protocol, "-g", "--path-as-is"]);
            assert_eq!(answer.status, 200, "{protocol} {path}: {answer:?}");
            assert_eq!(scribe.last().line(), format!("GET {sent} HTTP/1.1"), "{protocol}");
        }
        let before = scribe.all().len();
        for path in [
            "/SMS_DP_SMSPKG$/PS1/%2e%2e/x",
            "/SMS_DP_SMSPKG$/PS1/.%2e/x",
            "/SMS_DP_SMSPKG$/PS1/..;/x",
            "/SMS_DP_SMSPKG$/PS1/%2541",
            "/SMS_DP_SMSPKG$/PS1/%25%34%31",
            "/SMS_MP/.sms_pol;x",
            "/SMS_MP/.sms_pol%2500",
        ] {
            let refused = gateway.curl_as(&token, path, &[protocol, "-g", "--path-as-is"]);
            assert_eq!(
                (refused.status, &*refused.code()),
                (400, "path.ambiguous"),
                "{protocol} {path}"
            );
        }
        assert_eq!(scribe.all().len(), before, "a denied request reaches nobody");
    }
}

#[test]
fn observed_requests_are_not_translated() {
    let scribe = Scribe::start();
    let observe = "mode = \"observe\"\nobserve_until = 2099-01-01T00:00:00Z";
    let soon = sitegate::clock::Clock::system().now() + std::time::Duration::from_secs(86_400);
    let observe = observe.replace("2099-01-01T00:00:00Z", &soon.to_string());
    let routes = "[[site_system.route]]\npath = \"/SMS_MP_TokenAuth/own/\"\nrequire = \"device\"\n\
                  upstream = \"translate\"\ntoken = \"forward\"\n\
                  [[site_system.route]]\npath = \"/SMS_MP_TokenAuth/as-it-is/\"\nrequire = \"device\"\n";
    let gateway = Plan::to(&scribe.url())
        .site_system(&format!("upstream = \"translate\"\n{observe}"))
        .after(routes)
        .start();
    let token = gateway.token();
    for protocol in PROTOCOLS {
        for (token, path, sent, carries) in [
            (None, "/SMS_MP_TokenAuth/.sms_pol?x", "/SMS_MP_TokenAuth/.sms_pol?x", 0),
            (Some(&token), "/SMS_MP_TokenAuth/.sms_pol?x", "/SMS_MP/.sms_pol?x", 0),
            (Some(&token), "/SMS_MP_TokenAuth/own/x", "/SMS_MP/own/x", 1),
            (Some(&token), "/SMS_MP_TokenAuth/as-it-is/x", "/SMS_MP_TokenAuth/as-it-is/x", 0),
        ] {
            let answer = match token {
                Some(token) => gateway.curl_as(token, path, &[protocol]),
                None => gateway.curl(path, &[protocol]),
            };
            assert_eq!(answer.status, 200, "{protocol} {path}: {answer:?}");
            let written = scribe.last();
            assert_eq!(written.line(), format!("GET {sent} HTTP/1.1"), "{protocol}");
            assert_eq!(written.fields("authorization").len(), carries, "{protocol} {path}");
        }
    }
    let text = gateway.config_text().replace("/SMS_MP_TokenAuth/own/", "/reports/");
    gateway.write_config(&text);
    let out = gateway.command(&["check"]).output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(told.contains("/reports/ is not in a namespace that can be translated"), "{told}");
}

const ACCOUNT: &str = "gateway:open sesame";
const BASIC: &str = "Basic Z2F0ZXdheTpvcGVuIHNlc2FtZQ==";

/// A backend that admits only this account, as a web server does.
fn guarded() -> Scribe {
    Scribe::answering(|written| {
        if written.fields("authorization") == [BASIC] {
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()
        } else {
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"iis\"\r\n\
                   WWW-Authenticate: NTLM\r\nContent-Length: 6\r\n\r\nsecret"
                .to_vec()
        }
    })
}

#[test]
fn the_backend_account_is_sent_and_its_challenge_is_dropped() {
    let scribe = guarded();
    let auth = "[site_system.backend_auth]\nbasic = \"file:account\"\n";
    let plan = Plan::to(&scribe.url()).site_system(
        "token_headers = [\"Authorization: Bearer\", \"X-Token\"]\nwindows_auth = true",
    );
    let mut gateway = crate::support::Gateway::prepare(plan.after(auth));
    write_account(&gateway, ACCOUNT);
    gateway.launch();
    gateway.wait_until_ready();
    let token = gateway.token();
    let other = format!("X-Token: {token}");
    for protocol in PROTOCOLS {
        for (path, args) in [
            ("/SMS_MP/.sms_aut?MPLIST", &[protocol][..]),
            ("/SMS_MP/.sms_aut?MPLIST", &[protocol, "-u", "me:mine"]),
            ("/SMS_MP/.sms_pol?x", &[protocol, "-H", &other]),
            ("/SMS_MP_TokenAuth/.sms_pol?x", &[protocol, "-H", &other]),
        ] {
            let answer = gateway.curl(path, args);
            assert_eq!(answer.status, 200, "{path} {args:?}: {answer:?}");
            assert_eq!(scribe.last().fields("authorization"), [BASIC], "{path} {args:?}");
        }
        let carried = scribe.last().fields("x-token");
        assert_eq!(
            carried,
            std::slice::from_ref(&token),
            "a token in another field goes on as its route says"
        );
        assert_eq!(
            gateway.curl_as(&token, "/SMS_MP_TokenAuth/.sms_pol?x", &[protocol]).status,
            200
        );
        let before = scribe.all().len();
        assert_eq!(gateway.curl("/SMS_MP/.sms_pol?x", &[protocol]).code(), "token.missing");
        assert_eq!(scribe.all().len(), before);
    }
    // A client that authenticates itself to the backend does not get the gateway's account.
    let windows = gateway.curl("/CCM_System_WindowsAuth/request", &["--http1.1", "-X", "CCM_POST"]);
    assert_eq!(windows.status, 401, "{windows:?}");
    assert!(windows.head.contains("NTLM") && scribe.last().fields("authorization").is_empty());
    // The account was changed at the backend, and here after a reload.
    write_account(&gateway, "gateway:shut");
    gateway.signal("HUP");
    for protocol in PROTOCOLS {
        eventually("the new account is in force", || {
            gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[protocol]).status == 502
        });
        let refused = gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[protocol]);
        assert_eq!(refused.code(), "upstream.credentials");
        assert!(!refused.head.to_ascii_lowercase().contains("www-authenticate"), "{refused:?}");
        assert!(!refused.text().contains("secret"));
    }
    // A malformed account file changes nothing.
    write_account(&gateway, "nobody");
    gateway.signal("HUP");
    eventually("the file is refused", || {
        gateway.metric("sitegate_config_last_reload_successful") == 0.0
    });
    assert_eq!(gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[]).code(), "upstream.credentials");
    let told = gateway.log() + &std::fs::read_to_string(gateway.path("access.log")).unwrap();
    assert!(!told.contains("sesame") && !told.contains("Z2F0ZXdheTpv"), "an account is in a log");
}

fn write_account(gateway: &crate::support::Gateway, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = gateway.path("account");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_account_over_plain_http_or_unreadable_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = crate::support::Gateway::prepare(Plan::to("http://127.0.0.1:80"));
    write_account(&gateway, ACCOUNT);
    std::fs::write(gateway.path("open"), ACCOUNT).unwrap();
    std::fs::set_permissions(gateway.path("open"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = gateway.config_text();
    let far =
        text.replace("http://127.0.0.1:80", "http://mp.contoso.com") + "cleartext = \"accepted\"\n";
    let auth = |basic: &str| format!("[site_system.backend_auth]\n{basic}\n");
    for (text, auth, wanted) in [
        (&far, auth("basic = \"file:account\""), "would send a password to http://mp.contoso.com"),
        (&text, auth("basic = \"file:none\""), "cannot be used"),
        (&text, auth("basic = \"file:open\""), "every user of this machine can read"),
        (&text, auth(""), "basic of a backend_auth is missing"),
        (&text, auth("basic = \"gateway:open sesame\""), "is neither \"file:\" nor \"env:\""),
        (&text, auth("basic = 5"), "backend_auth"),
    ] {
        gateway.write_config(&format!("{text}{auth}"));
        let out = gateway.command(&["check"]).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(78), "{auth}: {told}");
        assert!(told.contains(wanted), "{auth}: {told}");
        assert!(!told.contains("sesame"), "{told}");
    }
}

#[test]
fn a_route_has_a_rate_limit_per_address() {
    let scribe = Scribe::start();
    let routes = "[[site_system.route]]\npath = \"/SMS_FSP/\"\nrequire = \"anonymous\"\n\
                  methods = [\"POST\"]\nrequests_per_minute = 3\n\
                  [[site_system.route]]\npath = \"/open/\"\nrequire = \"anonymous\"\n\
                  [[site_system.route]]\npath = \"/windows/\"\nrequire = \"windows\"\n\
                  requests_per_minute = 3\n";
    let plan = Plan::to(&scribe.url()).site_system("windows_auth = true");
    let gateway = plan.after(routes).start();
    let ask = |path: &str, protocol: &str, from: &str| {
        let answer = gateway.curl(path, &[protocol, "--interface", from, "-d", "x"]);
        (answer.status, answer.code())
    };
    for n in 0..3 {
        let protocol = PROTOCOLS[n % 2];
        assert_eq!(ask("/SMS_FSP/.sms_fsp", protocol, "127.0.0.1").0, 200, "{n}");
    }
    for protocol in PROTOCOLS {
        let more = ask("/SMS_FSP/.sms_fsp", protocol, "127.0.0.1");
        assert_eq!(more, (429, "limit.requests".to_owned()), "{protocol}");
        assert_eq!(ask("/open/x", protocol, "127.0.0.1").0, 200, "another route");
    }
    // A request with a pinned backend connection counts once.
    for wanted in [200, 200, 200, 429] {
        assert_eq!(gateway.curl("/windows/x", &["--http1.1"]).status, wanted);
    }
    // A request that is refused anyway does not count.
    let other = "127.0.0.2";
    for _ in 0..5 {
        let wrong = gateway.curl("/SMS_FSP/.sms_fsp", &["--interface", other]);
        assert_eq!(wrong.status, 405);
    }
    assert_eq!(ask("/SMS_FSP/.sms_fsp", PROTOCOLS[0], other).0, 200, "another address");
    assert_eq!(scribe.lines().iter().filter(|line| line.contains("FSP")).count(), 4);
}

#[test]
fn media_location_queries_pass_only_from_their_networks() {
    for (keys, network, media, new) in [
        ("", None, 403, 403),
        ("", Some("192.0.2.0/24"), 403, 403),
        ("", Some("127.0.0.0/8"), 200, 403),
        ("location_queries = [\"mpkeyinformationmedia\", \"MPNew\"]", None, 200, 200),
    ] {
        let scribe = Scribe::start();
        let port = free_port();
        let alt_auth = network.map_or(String::new(), |network| {
            format!("[site_system.alt_auth]\nnetworks = [\"{network}\"]\nendpoints = [\"MP_X\"]\n")
        });
        let plain = format!(
            "[site_system.plain_http]\nlisten = \"127.0.0.1:{port}\"\nmode = \"pass\"\n{alt_auth}"
        );
        let gateway = Plan::to(&scribe.url()).site_system(keys).after(&plain).start();
        let token = gateway.token();
        for (query, status) in [
            ("?MPLIST", 200),
            ("?mplist2&PS1", 200),
            ("?MPLOCATION&ir=192.168.1.1&ip=192.168.1.0", 200),
            ("?SITESIGNCERT", 200),
            ("?MPKEYINFORMATIONMEDIA", media),
            ("?MpNew&x=1", new),
            ("", 403),
            ("?", 403),
            ("?MPOTHER", 403),
            ("?MPLIST&MPKEYINFORMATIONMEDIA", 400),
            ("?MPLIST%26PS1", 400),
            ("?MPLIST&a=1';x", 400),
        ] {
            let path = format!("/SMS_MP/.sms_aut{query}");
            let code = match status {
                400 => "path.query",
                403 => "route.query",
                _ => "",
            };
            let asks = [
                gateway.curl(&path, &["--http1.1"]),
                gateway.curl(&path, &["--http2"]),
                gateway.curl_as(&token, &path, &["--http1.1"]),
                plain_http::curl(port, &path, &["--http1.1"]),
                plain_http::curl(port, &path, &["--http1.0"]),
            ];
            for (n, answer) in asks.iter().enumerate() {
                let seen = (answer.status, answer.code());
                assert_eq!(seen, (status, code.to_owned()), "{keys} {network:?} {query} {n}");
            }
        }
        // A token namespace takes all queries: the backend reads the token.
        let answer = gateway.curl_as(&token, "/SMS_MP_TokenAuth/.sms_aut?MPOTHER", &[]);
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn uploads_are_taken_by_the_verb_of_bits_alone_with_a_token_too() {
    let scribe = Scribe::start();
    let gateway = Plan::to(&scribe.url()).start();
    let token = gateway.token();
    let path = "/CCM_Incoming/5DD100CD-DF1D-45F5-BA17-A327F43465F8/1.xml";
    for protocol in ["--http1.1", "--http2"] {
        let sent = gateway.curl_as(&token, path, &[protocol, "-X", "BITS_POST", "-d", "x"]);
        assert_eq!(sent.status, 200, "{protocol}");
        for method in ["GET", "POST", "PUT", "DELETE", "PROPFIND", "OPTIONS", "CCM_POST"] {
            let other = gateway.curl_as(&token, path, &[protocol, "-X", method]);
            assert_eq!(
                (other.status, &*other.code()),
                (405, "route.method"),
                "{protocol} {method}"
            );
        }
        assert_eq!(gateway.curl_as(&token, path, &[protocol, "-I"]).status, 405, "{protocol}");
    }
    assert_eq!(scribe.all().len(), 2);
}
