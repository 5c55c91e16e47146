//! The status page, in a real browser and for scripts: its content, its look, and its limits.

use sitegate::clock::Clock;
use sitegate_forge::{Order, Pki};

use crate::support::{Browser, Gateway, Nginx, Plan, eventually, free_port};

const INJECTED: &str = "/SMS_MP/<script>document.title='owned'</script>";

/// A gateway with a PKI certificate for one site system and a site-issued one for another.
fn gateway(nginx: &Nginx) -> Gateway {
    let second = format!(
        "[[site_system]]\nname = \"dp01\"\nroles = [\"distribution-point\"]\nlisten = \"127.0.0.1:{}\"\nhosts = [\"dp01.contoso.com\"]\nbackend = \"{}\"\n",
        free_port(),
        nginx.url()
    );
    let gateway = Plan::to(&nginx.url()).after(&second).start();
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let pair = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    gateway.write_pki(&pair.chain, &pair.key, pki.root());
    eventually("the PKI's certificate is served", || {
        gateway.status()["site_systems"][0]["certificate"]["source"] == "pki"
    });
    let root = std::fs::read_to_string(gateway.path("root.pem")).unwrap();
    std::fs::write(gateway.path("root.pem"), root + pki.root()).unwrap();
    gateway
}

/// Returns the administration listener's response to curl: head and body.
fn ask(gateway: &Gateway, path: &str, args: &[&str]) -> (String, String) {
    let url = format!("http://127.0.0.1:{}{path}", gateway.admin);
    let out = std::process::Command::new("curl")
        .args(["-sS", "-D", "-", "--max-time", "20"])
        .args(args)
        .arg(url)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

fn denials(gateway: &Gateway, query: &str) -> serde_json::Value {
    serde_json::from_str(&ask(gateway, &format!("/api/v1/denials{query}"), &[]).1).unwrap()
}

#[test]
fn the_page_renders_in_light_and_dark_on_any_screen_size() {
    let nginx = Nginx::start();
    let gateway = gateway(&nginx);
    let token = gateway.token();
    for _ in 0..40 {
        assert_eq!(gateway.curl_as(&token, "/SMS_MP/.sms_pol?x", &[]).status, 200);
    }
    let url = format!("http://localhost:{}/", gateway.admin);
    let browser = Browser::start();
    browser.appear(1280, 900, "light");
    browser.go(&url);
    assert!(!browser.text().contains("token.missing"), "{}", browser.text());
    assert_eq!(gateway.curl("/SMS_MP/.sms_pol?secret=1", &[]).code(), "token.missing");
    gateway.curl(INJECTED, &["--http1.1"]);
    let unknown = "/unknown/".to_owned() + &"long".repeat(100);
    assert_eq!(gateway.curl(&unknown, &[]).code(), "route.unknown");
    for (width, scheme, back) in [
        (1280, "light", "rgb(255, 255, 255)"),
        (1280, "dark", "rgb(13, 17, 23)"),
        (375, "light", "rgb(255, 255, 255)"),
        (375, "dark", "rgb(13, 17, 23)"),
    ] {
        browser.appear(width, 1350, scheme);
        browser.go(&url);
        let (at, text) = (format!("{width} {scheme}"), browser.text());
        for word in ["site-issued", "PKI", "mp01", "dp01", "pki-fit", "Site PS1", "ready"] {
            assert!(text.contains(word), "{at}: {word} in {text}");
        }
        for word in ["token.missing", "The request carries no token", "route.unknown"] {
            assert!(text.contains(word), "{at}: {word} in {text}");
        }
        assert!(text.contains(INJECTED), "{at}: {text}");
        assert!(!text.contains("secret=1"), "a query is shown: {text}");
        assert_eq!(browser.eval("document.scripts.length"), 0, "{at}");
        assert_eq!(browser.eval("document.title"), "sitegate PS1", "{at}");
        let style = "getComputedStyle(document.body).backgroundColor";
        assert_eq!(browser.eval(style), back, "{at}");
        let widths = "[document.documentElement.scrollWidth, window.innerWidth]";
        assert_eq!(browser.eval(widths), serde_json::json!([width, width]), "{at}");
        assert_eq!(browser.complaints(), [""; 0], "{at}");
        if width == 1280 && std::env::var_os("SITEGATE_SCREENSHOTS").is_some() {
            let path = format!("{}/docs/page-{scheme}.png", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, browser.screenshot()).unwrap();
        }
    }
    // Only a small screen hides the column heads above its cards.
    let shown = "document.querySelector('thead').getBoundingClientRect().height > 2";
    assert_eq!(browser.eval(shown), false);
    browser.go(&format!("{url}?reason=route.unknown&refresh=off"));
    let rows = "document.querySelectorAll('#denials ~ table tbody tr').length";
    assert_eq!(browser.eval(rows), 1, "{}", browser.text());
    assert_eq!(browser.eval("document.querySelectorAll('meta[http-equiv]').length"), 0);
    // The query is in the form, and in the URL of the automatic refresh.
    browser.go(&format!("{url}?site_system=%3Cscript%3Ealert(1)%3C/script%3E"));
    assert_eq!(
        browser.eval("document.querySelector('[name=site_system]').value"),
        "<script>alert(1)</script>"
    );
    let again = browser.eval("document.querySelector('meta[http-equiv]').content");
    assert_eq!(again, "15; url=/?site_system=%3Cscript%3Ealert%281%29%3C%2Fscript%3E");
    assert_eq!(browser.eval("document.scripts.length"), 0);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_page_is_local_read_only_and_without_scripts() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    for path in ["/", "/api/v1/status", "/api/v1/denials", "/nothing"] {
        let (head, _) = ask(&gateway, path, &[]);
        assert!(head.starts_with("http/1.1 200") == (path != "/nothing"), "{path}: {head}");
        for field in [
            "content-security-policy: default-src 'none'; style-src 'sha256-",
            "base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(head.contains(field), "{path}: {field} in {head}");
        }
        for foreign in ["Host: sitegate.example", "Origin: https://evil.example", "Origin: null"] {
            let (head, body) = ask(&gateway, path, &["-H", foreign]);
            assert!(head.starts_with("http/1.1 421"), "{path} {foreign}: {head}");
            assert!(!body.contains("PS1"), "{body}");
        }
        let (head, _) = ask(&gateway, path, &["-X", "POST", "-d", "x"]);
        assert!(head.starts_with("http/1.1 40"), "{path}: {head}");
    }
    let (status, _) = gateway.get(gateway.metrics, "/").unwrap();
    assert_eq!(status, 404, "what may leave the machine has no page");
    assert!(!ask(&gateway, "/", &[]).1.contains("<script"));
}

#[test]
fn the_last_thousand_denials_are_served_without_an_access_log() {
    let nginx = Nginx::start();
    let gateway = Gateway::prepare(Plan::to(&nginx.url()));
    let text = gateway.config_text().replace("access = \"access.log\"", "access = \"off\"");
    gateway.write_config(&text);
    let mut gateway = gateway;
    gateway.launch();
    gateway.wait_until_ready();
    let answer = gateway.curl("/SMS_MP/.sms_pol?x", &[]);
    let told = denials(&gateway, "");
    assert_eq!(told["kept"], 1, "{told}");
    let denial = &told["denials"][0];
    for (field, value) in [
        ("reason", "token.missing"),
        ("decision", "denied"),
        ("site_system", "mp01"),
        ("path", "/SMS_MP/.sms_pol"),
        ("client", "127.0.0.1"),
    ] {
        assert_eq!(denial[field], value, "{field}");
    }
    assert_eq!(denial["status"], 401);
    let id = denial["request_id"].as_str().unwrap();
    assert!(answer.head.to_ascii_lowercase().contains(&format!("x-request-id: {id}")));
    // Many requests, on one connection per protocol.
    let urls = gateway.url("/unknown/[1-1100]");
    for protocol in ["--http1.1", "--http2"] {
        let out = gateway.curl_command(&["-o", "/dev/null", protocol, &urls]).output().unwrap();
        assert!(out.status.success());
    }
    let told = denials(&gateway, "");
    assert_eq!((&told["kept"], told["denials"].as_array().unwrap().len()), (&1000.into(), 1000));
    assert_eq!(told["denials"][0]["path"], "/unknown/1100");
    assert_eq!(denials(&gateway, "?reason=token.missing")["denials"], serde_json::json!([]));
    assert_eq!(denials(&gateway, "?route=none")["denials"].as_array().unwrap().len(), 1000);
    let status = gateway.status();
    let hour = status["last_hour"].as_array().unwrap();
    let counted: u64 = hour.iter().map(|minute| minute["denials"].as_u64().unwrap()).sum();
    assert!(counted >= 2200, "{hour:?}");
}

#[test]
fn connections_are_counted_by_site_system_and_version_of_tls() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let open = |version: &str| {
        gateway.status()["site_systems"][0]["connections"][version].as_u64().unwrap_or(0)
    };
    assert_eq!(open("TLSv1_3"), 0);
    let wires: Vec<_> = (0..3).map(|_| crate::support::connect(&gateway)).collect();
    eventually("three are counted", || open("TLSv1_3") == 3);
    assert!(ask(&gateway, "/", &[]).1.contains("TLS 1.3"));
    drop(wires);
    eventually("none is left", || open("TLSv1_3") == 0);
}

#[test]
fn the_page_shows_why_a_backend_is_down() {
    let gateway = Plan::to(&format!("http://127.0.0.1:{}", free_port())).start();
    assert!(ask(&gateway, "/", &[]).1.contains("no request yet"));
    assert_eq!(gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[]).status, 502);
    let (_, page) = ask(&gateway, "/", &[]);
    for shown in ["badge bad\">down", "upstream.unreachable", "is the service running"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(page.contains("<p class=\"warning\">backend 127.0.0.1"), "above all else: {page}");
}
