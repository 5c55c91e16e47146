//! The runbook: each test creates a situation, runs the commands of its section, and checks that
//! they show what the section promises.

mod followed;

use std::time::Duration;

use followed::Runbook;
use sitegate::clock::Clock;
use sitegate::token::SignerKind;
use sitegate_forge::{Forged, Order, Pki};
use sitegate_lab::SimDevice;

use crate::site_server::server_of;
use crate::store_health;
use crate::support::{
    Gateway, Nginx, Plan, Postgres, Scribe, connect, eventually, free_port, write_pair,
};

fn started(plan: impl FnOnce(Plan) -> Plan) -> (Scribe, Gateway) {
    let scribe = Scribe::start();
    let gateway = plan(Plan::to(&scribe.url())).start();
    (scribe, gateway)
}

/// A key pair from a PKI of its own, with a fault.
fn forged(spoil: impl FnOnce(&mut Order)) -> (Pki, Forged) {
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let mut order = Order::fit(&[Gateway::HOST], now);
    spoil(&mut order);
    let forged = pki.issue(&order).unwrap();
    (pki, forged)
}

#[test]
fn the_port_answers_but_clients_refuse() {
    let (_scribe, gateway) = started(|plan| plan);
    let refuses = gateway
        .curl("/SMS_MP/.sms_aut?MPLIST", &["--cacert", "/etc/ssl/certs/ca-certificates.crt"]);
    assert_eq!(refuses.status, 0, "a client without the root refuses");
    let runbook = Runbook::of(&gateway, "The port answers, but clients refuse");
    runbook.shows(&["site-issued"]).also(&["SMS Issuing"]);
    eventually("its metric grows", || {
        gateway.metric("sitegate_connection_ends_total{reason=\"handshake_alert\"}") >= 1.0
    });
}

#[test]
fn nothing_is_served() {
    let scribe = Scribe::start();
    let plan = Plan::to(&scribe.url()).site("certificates = \"pki-only\"");
    let mut gateway = Gateway::prepare(plan);
    gateway.launch();
    eventually("it is up", || gateway.get(gateway.metrics, "/livez").is_some());
    assert_eq!(gateway.get(gateway.metrics, "/readyz").unwrap().0, 503);
    Runbook::of(&gateway, "Nothing is served").also(&["certificate.absent"]);
    Runbook::of(&gateway, "Runbook").also(&["NOT READY"]);
}

#[test]
fn a_certificate_expires_or_has() {
    let (_scribe, gateway) = started(|plan| plan);
    let (pki, pair) = forged(|order| order.until = Clock::system().now() + Duration::from_secs(3));
    gateway.write_pki(&pair.chain, &pair.key, pki.root());
    eventually("the PKI's is served", || {
        gateway.log().contains("certificate selected") && shown(&gateway).contains("pki")
    });
    eventually("the site's own takes over", || shown(&gateway).contains("certificate.expired"));
    assert!(shown(&gateway).contains("site-issued"));
    Runbook::of(&gateway, "A certificate expires, or has").mentions(&["pki", "site-issued"]);
}

fn shown(gateway: &Gateway) -> String {
    let out = gateway.command(&["status"]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn the_sites_root_has_to_be_replaced() {
    let (_scribe, gateway) = started(|plan| plan);
    let section = "The site's root or a key has to be replaced";
    Runbook::of(&gateway, section).shows(&["steady"]);
    let publish = gateway.command(&["site", "rollover", "publish", "root"]).output().unwrap();
    assert!(publish.status.success());
    Runbook::of(&gateway, section).shows(&["published", "rollover.clients_unconfirmed"]);
}

#[test]
fn the_pki_certificate_is_not_served() {
    let (_scribe, gateway) = started(|plan| plan);
    let ((pki, pair), (_, other)) = (forged(|_| {}), forged(|_| {}));
    gateway.write_pki(&pair.chain, &other.key, pki.root());
    eventually("it is judged", || shown(&gateway).contains("certificate.key_mismatch"));
    let runbook = Runbook::of(&gateway, "The PKI certificate is not served");
    runbook.shows(&["certificate.key_mismatch", "site-issued-pki-unfit"]);
}

#[test]
fn the_certificate_changes_to_and_fro() {
    let (_scribe, gateway) = started(|plan| plan);
    let (pki, pair) = forged(|_| {});
    for _ in 0..2 {
        gateway.write_pki(&pair.chain, &pair.key, pki.root());
        eventually("the PKI's is served", || source(&gateway) == "pki");
        write_pair(&gateway.path("pki"), "no certificate", "no key", "");
        eventually("the folder is bad", || {
            shown(&gateway).contains("certificate.unreadable")
                || shown(&gateway).contains("certificate.malformed")
                || shown(&gateway).contains("rejected")
        });
        let (pki, pair) = forged(|_| {});
        gateway.write_pki(&pair.chain, &pair.key, pki.root());
        eventually("another is served", || source(&gateway) == "pki");
    }
    let told = Runbook::of(&gateway, "The certificate changes to and fro").told();
    assert!(told.matches("certificate selected").count() >= 3, "{told}");
}

fn source(gateway: &Gateway) -> String {
    let status = gateway.status();
    status["site_systems"][0]["certificate"]["source"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn everything_is_401() {
    let (_scribe, gateway) = started(|plan| plan);
    gateway.curl("/SMS_MP/.sms_pol?x", &[]);
    let mut bad = gateway.token();
    bad.truncate(bad.len() - 4);
    gateway.curl_as(&(bad.clone() + "AAAA"), "/SMS_MP/.sms_pol?x", &[]);
    std::fs::write(gateway.path("token.txt"), bad + "AAAA").unwrap();
    eventually("both are in the log", || gateway.access().len() == 2);
    let runbook = Runbook::of(&gateway, "Everything is 401");
    runbook.shows(&["token.missing", "token.signature"]);
}

#[test]
fn client_certificates_are_refused() {
    let scribe = Scribe::start();
    let plan = Plan::to(&scribe.url())
        .site_system("client_certificate = \"request\"\nclient_ca = \"clients.pem\"\nclient_crl = \"clients.crl\"")
        .after("[[site_system.route]]\npath = \"/reports/\"\nrequire = \"certificate\"");
    let mut gateway = Gateway::prepare(plan);
    let pki = Pki::new("Clients", Clock::system().now()).unwrap();
    std::fs::write(gateway.path("clients.pem"), pki.root()).unwrap();
    let now = Clock::system().now();
    let list =
        pki.crl(&[], now - Duration::from_secs(60), now + Duration::from_secs(3600)).unwrap();
    std::fs::write(gateway.path("clients.crl"), list).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    gateway.curl("/reports/x", &[]);
    eventually("it is in the log", || gateway.access().len() == 1);
    std::fs::write(gateway.path("clients.crl"), "no list").unwrap();
    eventually("it is told", || shown(&gateway).contains("clients.crl"));
    let runbook = Runbook::of(&gateway, "Client certificates are refused");
    runbook.shows(&["certificate.missing"]).also(&["clients.crl"]);
}

#[test]
fn many_requests_are_refused_for_another_reason() {
    let (_scribe, gateway) = started(|plan| plan);
    gateway.curl_as(&gateway.token(), "/nowhere/x", &[]);
    gateway.curl_as(&gateway.token(), "/SMS_MP/.sms_pol", &["-X", "DELETE"]);
    eventually("both are in the log", || gateway.access().len() == 2);
    let reasons: Vec<_> = gateway.access().iter().map(|line| line["reason"].to_string()).collect();
    Runbook::of(&gateway, "Many requests are refused for another reason")
        .mentions(&["route.unknown", "route.method"]);
    assert_eq!(reasons, ["\"route.unknown\"", "\"route.method\""]);
}

#[test]
fn a_site_system_observes() {
    let soon = Clock::system().now() + Duration::from_secs(86_400);
    let (_scribe, gateway) =
        started(|plan| plan.site_system(&format!("mode = \"observe\"\nobserve_until = {soon}")));
    gateway.curl("/SMS_DP_SMSPKG$/x", &[]);
    eventually("it is in the log", || gateway.access().len() == 1);
    Runbook::of(&gateway, "A site system observes").also(&["token.missing", "/SMS_DP_SMSPKG$/x"]);
}

#[test]
fn the_backend_fails() {
    let gateway = Plan::to(&format!("http://127.0.0.1:{}", free_port())).start();
    let answer = gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[]);
    assert_eq!((answer.status, &*answer.code()), (502, "upstream.unreachable"));
    Runbook::of(&gateway, "The backend fails").mentions(&["upstream.unreachable"]);
    eventually("its own answers have no reason", || {
        gateway.access().iter().any(|line| line["reason"] == "upstream.unreachable")
    });
}

#[test]
fn the_configuration_was_not_reloaded() {
    let (_scribe, gateway) = started(|plan| plan);
    let good = gateway.config_text();
    gateway.write_config(&good.replace("hosts = [", "host = ["));
    eventually("it is told", || gateway.log().contains("was not reloaded"));
    let runbook = Runbook::of(&gateway, "The configuration was not reloaded");
    runbook.also(&["did you mean 'hosts'?", "gateway.toml:"]);
    assert_eq!(gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[]).status, 200, "clients notice nothing");
    gateway.write_config(&good.replace("code = \"PS1\"", "code = \"PS2\""));
    eventually("the cause is in the log", || gateway.log().contains("only at a restart"));
}

#[test]
fn the_blocklist_was_not_read() {
    let scribe = Scribe::start();
    let mut gateway =
        Gateway::prepare(Plan::to(&scribe.url()).site("blocklist = \"blocklist.toml\""));
    std::fs::write(gateway.path("blocklist.toml"), "").unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    std::fs::write(gateway.path("blocklist.toml"), "[[block]]\ndevice = 7\n").unwrap();
    eventually("it is told", || gateway.log().contains("sitegate::blocklist"));
    Runbook::of(&gateway, "The blocklist was not read").also(&["blocklist.toml"]);
}

#[test]
fn a_client_gets_no_token() {
    let (_scribe, gateway) = started(|plan| plan.site_system("token_service = true"));
    let denied = gateway.curl("/sitegate/oauth2/token", &["-d", "grant_type=client_credentials"]);
    assert!((400..500).contains(&denied.status), "{denied:?}");
    eventually("it is told", || gateway.log().contains("sitegate::token_service"));
    Runbook::of(&gateway, "A client gets no token").also(&["sitegate::token_service"]);
}

#[test]
fn the_store_cannot_be_used() {
    let (mut server, nginx) = (Postgres::start(), Nginx::start());
    let gateway = store_health::at(&server, &nginx);
    server.stop();
    eventually("it is seen", || shown(&gateway).contains("store.unreachable"));
    assert_eq!(gateway.metric("sitegate_store_up"), 0.0);
    let runbook = Runbook::of(&gateway, "The store cannot be used");
    runbook.shows(&["store.unreachable"]).also(&["doctor.store", "sitegate::store"]);
}

#[test]
fn a_key_claims_to_be_a_known_device() {
    let (_scribe, gateway) = started(|plan| plan.site_system("token_service = true"));
    let bulk = gateway.command(&["token", "bulk"]).output().unwrap().stdout;
    let field = format!("Authorization: Bearer {}", String::from_utf8(bulk).unwrap().trim());
    let register = |device: Option<&str>| {
        let key = SimDevice::new(SignerKind::P256, "https://mp01", "/sitegate/oauth2").unwrap();
        let mut body = serde_json::json!({ "jwks": { "keys": [key.jwk()] } });
        if let Some(device) = device {
            body["device_id"] = device.into();
        }
        let args = ["-H", &field, "-H", "Content-Type: application/json", "-d", &body.to_string()];
        let answer = gateway.curl("/sitegate/oauth2/register", &args);
        assert_eq!(answer.status, 201, "{answer:?}");
        let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        (told["client_id"].as_str().unwrap().to_owned(), key)
    };
    let (id, _) = register(None);
    let (_, planted) = register(Some(&id));
    let runbook = Runbook::of(&gateway, "A key claims to be a known device");
    runbook.also(&[&id, planted.thumbprint(), "by bulk token", "from 127.0.0.1"]);
    runbook.also(&["device.key-claimed", "claims to be a device that has other keys"]);
}

#[test]
fn a_gateway_does_not_hear_of_its_site_server() {
    let mut gateway = Gateway::prepare(
        Plan::to("http://127.0.0.1:9")
            .sections("[site_server]\nname = \"dp01\"\njoin = \"file:join\"\n"),
    );
    // The join token of a site server that no longer exists.
    let (_scribe, site) = started(|plan| {
        let server = format!(
            "[[site_system]]\nname = \"site\"\nroles = [\"site-server\"]\nlisten = \"127.0.0.1:{}\"\n\
             hosts = [\"site01.contoso.com\"]\n",
            free_port()
        );
        plan.site("token_issuer = \"https://mp01.contoso.com/sitegate/oauth2\"").after(&server)
    });
    let token = site
        .command(&[
            "site",
            "join-token",
            "dp01",
            "--host",
            Gateway::HOST,
            "--role",
            "distribution-point",
        ])
        .output()
        .unwrap();
    assert!(token.status.success(), "{}", String::from_utf8_lossy(&token.stderr));
    std::fs::write(gateway.path("join"), token.stdout).unwrap();
    drop(site);
    gateway.launch();
    eventually("it is told", || gateway.log().contains("no site server answers"));
    let runbook = Runbook::of(&gateway, "A gateway does not hear of its site server");
    runbook.shows(&["no site server answers"]);
}

#[test]
fn a_site_server_makes_no_bundle() {
    let nginx = Nginx::start();
    let postgres = Postgres::start();
    let _one = server_of(&nginx.url(), &postgres, |_| {});
    let two = server_of(&nginx.url(), &postgres, |two| {
        let text = two.config_text();
        two.write_config(&text.replace("/sitegate/oauth2\"", "/sitegate/other\""));
    });
    let gateway = &two.gateway;
    let told = "another site server publishes different bundles";
    eventually("it is told", || gateway.log().contains(told));
    eventually("metrics have it", || gateway.metric("sitegate_bundle_last_made_successful") == 0.0);
    assert!(gateway.get(gateway.metrics, "/readyz").unwrap().1.contains(told));
    Runbook::of(gateway, "A site server makes no bundle").shows(&[told]);
}

#[test]
fn the_clock_is_wrong() {
    let scribe = Scribe::start();
    let mut plan = Plan::to(&scribe.url());
    let library = crate::soak::faketime();
    plan.env =
        [("LD_PRELOAD", library.as_str()), ("FAKETIME", "-1h"), ("DONT_FAKE_MONOTONIC", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    let gateway = plan.start();
    // Issued by a correct clock.
    let answer = gateway.curl_as(&gateway.token(), "/SMS_MP/.sms_pol?x", &["-k"]);
    assert_eq!((answer.status, &*answer.code()), (401, "token.not_yet_valid"));
    Runbook::of(&gateway, "The clock is wrong").mentions(&["token.not_yet_valid"]);
}

#[test]
fn it_does_not_start() {
    let (_scribe, running) = started(|plan| plan);
    let mut bad = Gateway::prepare(Plan::to("http://127.0.0.1:9"));
    let good = bad.config_text();
    bad.write_config(&good.replace("[site]", "[sight]"));
    bad.launch();
    assert_eq!(bad.wait(), 78);
    Runbook::of(&bad, "It does not start").mentions(&["78"]);
    bad.write_config(&good.replace(&format!(":{}\"", bad.port), &format!(":{}\"", running.port)));
    bad.launch();
    assert_ne!(bad.wait(), 0);
    let last = bad.log().lines().last().unwrap_or_default().to_owned();
    assert!(last.contains(&format!("127.0.0.1:{}", running.port)), "{last}");
}

#[test]
fn lines_of_the_access_log_are_dropped() {
    let scribe = Scribe::start();
    let mut gateway = Gateway::prepare(Plan::to(&scribe.url()));
    std::os::unix::fs::symlink("/dev/full", gateway.path("access.log")).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    assert_eq!(gateway.curl("/SMS_MP/.sms_aut?MPLIST", &[]).status, 200, "requests go on");
    eventually("it is told", || gateway.log().contains("sitegate::log"));
    Runbook::of(&gateway, "Lines of a log are dropped").also(&["No space left"]);
}

#[test]
fn connections_are_turned_away() {
    let (_scribe, gateway) = started(|plan| plan.sections("[limits]\nconnections = 1\n"));
    let _held = connect(&gateway);
    let turned_away = std::net::TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    eventually("it is counted", || {
        gateway.metric("sitegate_connection_ends_total{reason=\"too_many\"}") >= 1.0
    });
    drop(turned_away);
    Runbook::of(&gateway, "Connections are turned away").mentions(&["too_many"]);
}

#[test]
fn it_does_not_answer_at_all() {
    let (_scribe, mut gateway) = started(|plan| plan);
    let runbook = Runbook::of(&gateway, "It does not answer at all");
    runbook.also(&["\nok\n"]);
    gateway.kill();
    let told = Runbook::of(&gateway, "It does not answer at all").told();
    assert!(!told.contains("\nok\n"), "{told}");
}

#[test]
fn a_change_is_taken_without_a_restart() {
    let (_scribe, gateway) = started(|plan| plan);
    let mut wire = connect(&gateway);
    let text = gateway.config_text();
    gateway.write_config(&text.replace("\"distribution-point\"", "\"fallback-status-point\""));
    eventually("it is in force", || gateway.log().contains("the configuration was reloaded"));
    Runbook::of(&gateway, "Restarting without cutting transfers off").mentions(&["drain_time"]);
    wire.send(
        format!("GET /SMS_MP/.sms_aut?MPLIST HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST)
            .as_bytes(),
    );
    assert_eq!(wire.read_answer().0, 200, "the connection is the same");
}

#[test]
fn a_restored_store_had_forgotten_blocks() {
    let (_scribe, mut gateway) = started(|plan| plan);
    gateway.kill();
    let folder = gateway.path("");
    let copy = |from: &str, to: &str| {
        let _ = std::fs::remove_dir_all(folder.join(to));
        let (from, to) = (folder.join(from), folder.join(to));
        let done = std::process::Command::new("cp").arg("-a").args([from, to]).status();
        assert!(done.unwrap().success());
    };
    copy("state/store", "copy");
    gateway.launch();
    gateway.wait_until_ready();
    let blocked = gateway.command(&["site", "block", "--user", "mallory"]).output().unwrap();
    assert!(blocked.status.success());
    gateway.kill();
    copy("copy", "state/store");
    gateway.launch();
    gateway.wait_until_ready();
    let runbook = Runbook::of(&gateway, "A restored store had forgotten blocks");
    runbook.also(&["mallory", "still in force: 1"]);
    assert!(gateway.metric("sitegate_store_recovered_blocks") >= 1.0);
}

#[test]
fn the_state_directory_is_gone() {
    let (_scribe, gateway) = started(|plan| plan);
    std::fs::rename(gateway.path("state"), gateway.path("away")).unwrap();
    eventually("it is told", || gateway.log().contains("sitegate::probe"));
    let runbook = Runbook::of(&gateway, "The state directory is gone");
    runbook.also(&["WARNING: the state directory", "or another one is mounted in its place"]);
    assert_eq!(gateway.metric("sitegate_state_present"), 0.0);
}

#[test]
fn every_section_of_the_runbook_is_followed() {
    let source = concat!(include_str!("mod.rs"));
    for heading in followed::headings() {
        assert!(source.contains(&format!("\"{heading}\"")), "nobody follows \"{heading}\"");
    }
}
