//! The health of the store and the disks, and the service of clients meanwhile.

use serde_json::Value;
use sitegate::token::SignerKind;
use sitegate_lab::SimDevice;

use crate::machine::can_mount;
use crate::support::{Answer, Gateway, Nginx, Plan, Postgres, eventually};

/// A gateway with its store on this server.
pub fn at(server: &Postgres, nginx: &Nginx) -> Gateway {
    let plan = Plan::to(&nginx.url())
        .sections("[token_service]\nstore = \"file:store\"\nregistrations_per_minute = 100000")
        .site_system("token_service = true");
    let mut gateway = Gateway::prepare(plan);
    sitegate::secret::write_private(&gateway.path("store"), server.url().as_bytes()).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    gateway
}

/// The warnings of its status, as one text.
fn warnings(gateway: &Gateway) -> String {
    let status = gateway.status();
    let lines = status["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.collect::<Vec<_>>().join("\n")
}

/// Registers a new key with a bulk token, by curl.
fn register(gateway: &Gateway, bulk: &str) -> Answer {
    let key = SimDevice::new(SignerKind::P256, "https://mp01", "/sitegate/oauth2").unwrap();
    let body = serde_json::json!({ "jwks": { "keys": [key.jwk()] } }).to_string();
    let field = format!("Authorization: Bearer {bulk}");
    let args = ["-H", &field, "-H", "Content-Type: application/json", "-d", &body];
    gateway.curl("/sitegate/oauth2/register", &args)
}

fn count(text: &str, of: &str) -> usize {
    text.matches(of).count()
}

#[test]
fn a_store_outage_is_logged_once_and_refuses_with_its_code() {
    let (mut server, nginx) = (Postgres::start(), Nginx::start());
    let gateway = at(&server, &nginx);
    let bulk = gateway.command(&["token", "bulk"]).output().unwrap().stdout;
    let bulk = String::from_utf8(bulk).unwrap().trim().to_owned();
    assert_eq!(gateway.metric("sitegate_store_up"), 1.0);
    assert_eq!(warnings(&gateway), "");
    server.stop();
    // Without any client request.
    eventually("it is seen", || gateway.metric("sitegate_store_up") == 0.0);
    eventually("its cause is the last one", || warnings(&gateway).contains("store.unreachable"));
    assert_eq!(gateway.get(gateway.metrics, "/readyz").unwrap().0, 200, "it stays ready");
    for _ in 0..20 {
        let answer = register(&gateway, &bulk);
        assert_eq!((answer.status, &*answer.code()), (503, "service.store"), "{answer:?}");
        assert!(answer.head.to_lowercase().contains("\r\nretry-after: "), "{}", answer.head);
    }
    let failed = "sitegate_store_failures_total{cause=\"store.unreachable\"}";
    assert!(gateway.metric(failed) >= 20.0, "each is counted");
    server.resume();
    eventually("it is back", || gateway.metric("sitegate_store_up") == 1.0);
    assert_eq!(warnings(&gateway), "");
    gateway.assert_logged("the site's store can be used again");
    let log = gateway.log();
    assert_eq!(count(&log, "the site's store cannot be used"), 1, "{log}");
    assert_eq!(count(&log, "the site's store can be used again"), 1, "{log}");
    assert_eq!(count(&log, "refused: "), 0, "{log}");
    assert_eq!(register(&gateway, &bulk).status, 201);
    assert!(!log.contains("postgres://"), "the URL is a secret");
}

#[test]
fn a_nearly_full_disk_is_reported_in_advance() {
    if !can_mount() {
        return;
    }
    let nginx = Nginx::start();
    let mount = "mkdir -p state && mount -t tmpfs -o size=8m none state";
    let plan = Plan::to(&nginx.url()).first(&["unshare", "-m"], mount);
    let mut gateway = Gateway::prepare(plan);
    gateway.launch();
    gateway.wait_until_ready();
    let wanted = "free on the file system of the state directory";
    eventually("it is told", || warnings(&gateway).contains(wanted));
    let free = gateway.metric("sitegate_state_free_bytes");
    assert!(free > 0.0 && free < 8e6, "{free}");
}
