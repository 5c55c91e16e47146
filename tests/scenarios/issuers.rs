//! Token issuers with key URLs: they rotate keys, fail, hang and lie, and clients with good tokens
//! are not affected.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;

use crate::support::{Gateway, Idp, Nginx, Plan, Signer, connect, eventually, key_set, ok};

const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";
const ISS: &str = "https://idp.example";
const FETCHES: &str = "sitegate_token_key_fetches_total";

/// A `[[token_issuer]]` named `name`; its `iss` is [`ISS`] and the name, unless it is idp.
fn section(name: &str, keys: &str) -> String {
    let iss = if name == "idp" { ISS.to_owned() } else { format!("{ISS}/{name}") };
    format!(
        r#"[[token_issuer]]
name = "{name}"
kind = "oidc"
issuer = "{iss}"
audiences = ["mp"]
device_claim = "sub"
{keys}
"#
    )
}

fn remote(idp: &Idp, path: &str, more: &str) -> String {
    let url = idp.url(path);
    format!("keys = \"{url}\"\nkey_ca = \"idp.pem\"\nprivate_hosts = [\"localhost\"]\n{more}")
}

fn prepared(nginx: &Nginx, idp: &Idp, sections: &str) -> Gateway {
    let gateway = Gateway::prepare(Plan::to(&nginx.url()).after(sections));
    std::fs::write(gateway.path("idp.pem"), &idp.root).unwrap();
    std::fs::write(gateway.path("expired.pem"), &idp.expired_root).unwrap();
    gateway
}

fn started(nginx: &Nginx, idp: &Idp, sections: &str) -> Gateway {
    let mut gateway = prepared(nginx, idp, sections);
    gateway.launch();
    gateway.wait_until_ready();
    gateway
}

fn ask(token: &str) -> Vec<u8> {
    let host = Gateway::HOST;
    format!("GET {POLICY} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n").into()
}

/// Returns the token with another kid in its header.
fn with_kid(token: &str, kid: &str) -> String {
    let (header, rest) = token.split_once('.').unwrap();
    let mut header: serde_json::Value =
        serde_json::from_slice(&B64.decode(header).unwrap()).unwrap();
    header["kid"] = kid.into();
    format!("{}.{rest}", B64.encode(header.to_string()))
}

#[test]
fn the_first_token_of_a_new_key_is_accepted() {
    let (nginx, idp, old, new) = (Nginx::start(), Idp::start(), Signer::new(), Signer::new());
    idp.answer("/keys", ok(&key_set(&[&old])));
    let times = "key_refetch_interval = \"1s\"";
    let gateway = started(&nginx, &idp, &section("idp", &remote(&idp, "/keys", times)));
    let (before, after) = (old.token(ISS), new.token(ISS));
    // Even if the first token arrives before the first fetch has ended.
    assert_eq!(gateway.curl_as(&before, POLICY, &[]).status, 200);
    let mut wire = connect(&gateway);

    let interval = Instant::now();
    eventually("a fetch may begin", || interval.elapsed() > Duration::from_millis(1100));
    idp.answer("/keys", ok(&key_set(&[&old, &new])));
    let fetched = idp.asked("/keys");
    for token in [&after, &before, &after] {
        wire.send(&ask(token));
        assert_eq!(wire.read_answer().0, 200, "nobody is refused while keys change");
    }
    assert_eq!(gateway.curl_as(&after, POLICY, &["--http2"]).status, 200);
    assert_eq!(idp.asked("/keys"), fetched + 1);

    idp.answer("/keys", ok(&key_set(&[&new])));
    let rubbish = with_kid(&after, "unknown");
    eventually("the old key is gone", || {
        wire.send(&ask(&rubbish));
        assert_eq!(wire.read_answer().0, 401);
        wire.send(&ask(&before));
        wire.read_answer().0 == 401
    });
    wire.send(&ask(&after));
    assert_eq!(wire.read_answer().0, 200);
    let status = gateway.status();
    let issuer = status["issuers"].as_array().unwrap().iter().find(|i| i["name"] == "idp").unwrap();
    assert_eq!(issuer["keys_from"], idp.url("/keys"));
    assert!(issuer["keys_fetched"].is_string(), "{issuer}");
}

#[test]
fn ten_thousand_unknown_keys_cause_one_fetch() {
    let (nginx, idp, signer) = (Nginx::start(), Idp::start(), Signer::new());
    idp.answer("/keys", ok(&key_set(&[&signer])));
    let gateway = started(&nginx, &idp, &section("idp", &remote(&idp, "/keys", "")));
    let good = signer.token(ISS);
    assert_eq!(gateway.curl_as(&good, POLICY, &[]).status, 200);
    let began = Instant::now();
    let memory = gateway.memory_kib();
    std::thread::scope(|scope| {
        let floods: Vec<_> = (0..4)
            .map(|n| {
                let (gateway, good) = (&gateway, &good);
                scope.spawn(move || {
                    let mut wire = connect(gateway);
                    for m in 0..2500 {
                        wire.send(&ask(&with_kid(good, &format!("kid-{n}-{m}"))));
                        assert_eq!(wire.read_answer().0, 401);
                    }
                })
            })
            .collect();
        let mut wire = connect(&gateway);
        while !floods.iter().all(|flood| flood.is_finished()) {
            wire.send(&ask(&good));
            assert_eq!(wire.read_answer().0, 200);
        }
    });
    // One fetch at start, and one per started interval of 30 s.
    let allowed = 2 + began.elapsed().as_secs() / 30;
    assert!(idp.asked("/keys") as u64 <= allowed, "{} fetches", idp.asked("/keys"));
    let grown = gateway.memory_kib().saturating_sub(memory);
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
}

#[test]
fn keys_that_are_known_outlive_their_issuer_and_a_restart() {
    let (nginx, idp, signer) = (Nginx::start(), Idp::start(), Signer::new());
    idp.answer("/keys", ok(&key_set(&[&signer])));
    let times = "key_refresh = \"1s\"";
    let mut gateway = started(&nginx, &idp, &section("idp", &remote(&idp, "/keys", times)));
    let token = signer.token(ISS);
    assert_eq!(gateway.curl_as(&token, POLICY, &[]).status, 200);
    eventually("they are fetched ahead of their age", || idp.asked("/keys") > 2);
    idp.stop();
    eventually("the issuer is missed", || {
        gateway.metric(&format!("{FETCHES}{{issuer=\"idp\",result=\"unreachable\"}}")) > 1.0
    });
    assert_eq!(gateway.curl_as(&token, POLICY, &[]).status, 200);
    let kept = gateway.path("state/keys/idp.json");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&kept).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    gateway.launch();
    gateway.wait_until_ready();
    assert_eq!(gateway.curl_as(&token, POLICY, &[]).status, 200);
    gateway.assert_logged("using saved keys");
    let fetched = gateway.metric("sitegate_token_keys_fetched_timestamp_seconds{issuer=\"idp\"");
    assert!(fetched > 1_700_000_000.0, "{fetched}");
    std::fs::write(gateway.path("token"), &token).unwrap();
    let mut inspect = gateway.command(&["token", "inspect"]);
    let told = inspect.arg(gateway.path("token")).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));

    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    std::fs::write(&kept, "{ damaged").unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    assert_eq!(gateway.curl_as(&token, POLICY, &[]).code(), "token.signature");
    gateway.assert_logged("saved keys are not used");
}

#[test]
fn what_is_not_the_issuers_own_is_refused_with_a_reason() {
    let (nginx, idp, signer) = (Nginx::start(), Idp::start(), Signer::new());
    let keys = key_set(&[&signer]);
    let set = ok(&keys);
    let padded = format!("{{\"pad\": \"{}\", {}", "x".repeat(300 * 1024), &keys[1..]);
    let chunked = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
    };
    let document = |iss: &str, keys: &str| {
        ok(&format!("{{\"issuer\": \"{iss}\", \"jwks_uri\": \"{keys}\", \"other\": [1]}}"))
    };
    let discovery = |name: &str| format!("/{name}/.well-known/openid-configuration");
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\n", idp.url("/keys"));
    let elsewhere = format!("https://127.0.0.1:{}/keys", idp.port);
    let plain = |iss: &str| format!("{ISS}/{iss}");
    idp.answer("/keys", set.clone());
    idp.answer("/moved", format!("{moved}Content-Length: 0\r\n\r\n").into_bytes());
    idp.answer("/large", ok(&padded));
    idp.answer("/chunked", chunked(&padded));
    idp.answer("/html", ok("<html>welcome</html>"));
    let zipped = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}";
    idp.answer("/zipped", zipped.as_bytes().to_vec());
    idp.answer(&discovery("good"), document(&plain("good"), &idp.url("/keys")));
    idp.answer(&discovery("liar"), document(&plain("good"), &idp.url("/keys")));
    idp.answer(&discovery("away"), document(&plain("away"), &elsewhere));
    idp.answer(&discovery("named"), document(&plain("named"), &elsewhere));
    idp.answer(&discovery("clear"), document(&plain("clear"), "http://localhost/keys"));
    let at = |name: &str| remote(&idp, &discovery(name), "");
    let cases = [
        ("direct", remote(&idp, "/keys", ""), "ok"),
        ("small-chunks", remote(&idp, "/chunks", ""), "ok"),
        ("moved", remote(&idp, "/moved", ""), "status"),
        ("missing", remote(&idp, "/nothing", ""), "status"),
        ("large", remote(&idp, "/large", ""), "too_large"),
        ("chunked", remote(&idp, "/chunked", ""), "too_large"),
        ("html", remote(&idp, "/html", ""), "malformed"),
        ("zipped", remote(&idp, "/zipped", ""), "malformed"),
        ("private", format!("keys = \"{}\"\nkey_ca = \"idp.pem\"", idp.url("/keys")), "address"),
        ("literal", format!("keys = \"{elsewhere}\"\nkey_ca = \"idp.pem\""), "address"),
        (
            "number",
            format!("keys = \"https://2130706433:{}/keys\"\nkey_ca = \"idp.pem\"", idp.port),
            "address",
        ),
        (
            "stranger",
            format!("keys = \"{}\"\nprivate_hosts = [\"localhost\"]", idp.url("/keys")),
            "certificate",
        ),
        ("expired", remote(&idp, "/keys", "").replace("idp.pem", "expired.pem"), "certificate"),
        ("good", at("good"), "ok"),
        ("liar", at("liar"), "issuer"),
        ("away", at("away"), "address"),
        ("clear", at("clear"), "malformed"),
        (
            "named",
            at("named").replace("[\"localhost\"]", "[\"localhost\", \"127.0.0.1\"]")
                + "\nkey_hosts = [\"127.0.0.1\"]",
            "ok",
        ),
    ];
    idp.answer("/chunks", chunked(&keys));
    let sections: String = cases.iter().map(|(name, keys, _)| section(name, keys)).collect();
    let gateway = started(&nginx, &idp, &sections);
    for (name, _, result) in &cases {
        let metric = format!("{FETCHES}{{issuer=\"{name}\",result=\"{result}\"}}");
        eventually(&format!("{name} is {result}"), || gateway.metric(&metric) > 0.0);
        let all = gateway.metric(&format!("{FETCHES}{{issuer=\"{name}\""));
        assert_eq!(gateway.metric(&metric), all, "{name} is nothing else");
        let status = gateway.curl_as(&signer.token(&plain(name)), POLICY, &[]).status;
        assert_eq!(status, if *result == "ok" { 200 } else { 401 }, "{name}");
    }
    let issuers = gateway.status()["issuers"].clone();
    for (name, _, result) in &cases {
        let issuer = issuers.as_array().unwrap().iter().find(|i| i["name"] == *name).unwrap();
        let problems = issuer["problems"].as_array().map_or(0, Vec::len);
        assert_eq!(problems > 0, *result != "ok", "status of {name}: {issuer}");
    }
    for told in ["redirects are not followed", "which is loopback", "key_hosts", "UnknownIssuer"] {
        gateway.assert_logged(told);
    }
}

#[test]
fn the_age_that_an_issuer_gives_its_keys_is_honoured() {
    let (nginx, idp, signer) = (Nginx::start(), Idp::start(), Signer::new());
    let keys = key_set(&[&signer]);
    let cached = |fields: &str| {
        let length = keys.len();
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n{keys}").into_bytes()
    };
    let cases = [
        ("aged", "Cache-Control: public, max-age=12000\r\nAge: 2000\r\n", 7000..=8000),
        ("short", "Cache-Control: max-age=1\r\n", 210..=240),
        ("long", "Cache-Control: max-age=31536000\r\n", 60_480..=69_120),
        ("silent", "", 2520..=2880),
    ];
    let mut sections = String::new();
    for (name, fields, _) in &cases {
        idp.answer(&format!("/{name}"), cached(fields));
        sections += &section(name, &remote(&idp, &format!("/{name}"), ""));
    }
    let mut plan = Plan::to(&nginx.url()).after(&sections);
    plan.env.push(("RUST_LOG".to_owned(), "info,sitegate::keys=debug".to_owned()));
    let mut gateway = Gateway::prepare(plan);
    std::fs::write(gateway.path("idp.pem"), &idp.root).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    for (name, _, seconds) in cases {
        let mut next = None;
        eventually(&format!("{name} was fetched"), || {
            let log = gateway.log();
            let issuer = format!("issuer=\"{name}\" next_s=");
            let found =
                log.split_once(&issuer).and_then(|(_, rest)| rest.split_whitespace().next());
            next = found.and_then(|seconds| seconds.parse::<u64>().ok());
            next.is_some()
        });
        assert!(seconds.contains(&next.unwrap()), "{name}: {next:?} is not in {seconds:?}");
    }
}

#[test]
fn a_hung_issuer_delays_no_token_with_a_known_key() {
    let (nginx, idp, signer) = (Nginx::start(), Idp::start(), Signer::new());
    idp.answer("/keys", ok(&key_set(&[&signer])));
    let times = "key_refetch_interval = \"1s\"";
    let gateway = started(&nginx, &idp, &section("idp", &remote(&idp, "/keys", times)));
    let good = signer.token(ISS);
    assert_eq!(gateway.curl_as(&good, POLICY, &[]).status, 200);
    idp.answer("/keys", Vec::new());
    let fetched = idp.asked("/keys");
    let mut waiting = connect(&gateway);
    eventually("a fetch hangs", || {
        waiting.send(&ask(&with_kid(&good, "unknown")));
        let hangs = Instant::now();
        while idp.asked("/keys") == fetched && hangs.elapsed() < Duration::from_millis(100) {}
        idp.asked("/keys") > fetched || waiting.read_answer().0 != 401
    });
    // That request still waits for the fetch; known keys, and the site's own, need none.
    let mut wire = connect(&gateway);
    for token in [&good, &gateway.token()] {
        wire.send(&ask(token));
        assert_eq!(wire.read_answer().0, 200);
    }
    assert_eq!(waiting.read_answer().0, 401);
}

#[test]
fn issuers_come_and_go_by_reload_without_a_lost_request() {
    let (nginx, idp, signer) = (Nginx::start(), Idp::start(), Signer::new());
    idp.answer("/keys", ok(&key_set(&[&signer])));
    idp.answer("/others", ok(&key_set(&[&Signer::new()])));
    let gateway = started(&nginx, &idp, "");
    let token = signer.token(ISS);
    let own = gateway.token();
    let bare = gateway.config_text();
    let mut wire = connect(&gateway);
    let mut status = |token: &str| {
        wire.send(&ask(&own));
        assert_eq!(wire.read_answer().0, 200);
        wire.send(&ask(token));
        wire.read_answer().0
    };
    assert_eq!(status(&token), 401);
    gateway.write_config(&format!("{bare}{}", section("idp", &remote(&idp, "/keys", ""))));
    eventually("the issuer is trusted", || status(&token) == 200);
    let fetched = idp.asked("/keys");
    // A change unrelated to its keys does not fetch them again.
    let same = section("idp", &remote(&idp, "/keys", "leeway = \"4m\""));
    gateway.write_config(&format!("{bare}{same}"));
    eventually("the change is in force", || gateway.log().matches("was reloaded").count() == 2);
    assert_eq!((status(&token), idp.asked("/keys")), (200, fetched));
    // With a new URL, the stored keys from the old one are not used.
    gateway.write_config(&format!("{bare}{}", section("idp", &remote(&idp, "/others", ""))));
    eventually("the keys are others", || status(&token) == 401);
    gateway.write_config(&bare);
    eventually("the issuer is gone", || {
        gateway.curl_as(&token, POLICY, &[]).code() == "token.issuer"
    });
    assert_eq!(gateway.metric(FETCHES), 0.0, "its counters are gone with it");
}
