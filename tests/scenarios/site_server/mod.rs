//! Gateways on other hosts: they join a site once, follow its bundle, get their certificates from
//! it, and keep serving if the server fails.

mod door;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sitegate::clock::Clock;
use sitegate::token::{OpenedBundle, SignerKind};
use sitegate_lab::{DeviceError, SimClient, SimDevice, SimRequest, Trust};
use tokio::runtime::Runtime;

use crate::soak::faketime;
use crate::support::{DEVICE, Gateway, Nginx, Plan, Postgres, eventually, free_port};

const PATH: &str = "/sitegate/oauth2";
pub const ISSUER: &str = "https://mp01.contoso.com/sitegate/oauth2";
const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";

pub fn now() -> jiff::Timestamp {
    Clock::system().now()
}

/// A site server on a port of its own. It is no gateway for clients.
pub struct Server {
    pub gateway: Gateway,
    pub port: u16,
}

impl Server {
    pub fn start(backend: &str) -> Server {
        Server::prepared(backend, "", "", |_| {})
    }

    /// Creates one with keys of `[site]` and `[token_service]`, after `more` has prepared its
    /// folder.
    pub fn prepared(
        backend: &str,
        site: &str,
        service: &str,
        more: impl FnOnce(&Gateway),
    ) -> Server {
        Server::planned(backend, site, service, more, "")
    }

    /// Creates one after the shell that becomes its process has run `first`.
    pub fn planned(
        backend: &str,
        site: &str,
        service: &str,
        more: impl FnOnce(&Gateway),
        first: &str,
    ) -> Server {
        let port = free_port();
        let plan = Plan::to(backend)
            .first(&[], first)
            .site(&format!("token_issuer = \"{ISSUER}\"\n{site}"))
            .sections(&format!(
                "[token_service]\nregistrations_per_minute = 100000\n\
                 requests_per_minute = 1000000\n{service}"
            ))
            .after(&format!(
                "[[site_system]]\nname = \"site01\"\nroles = [\"site-server\"]\n\
                 listen = \"127.0.0.1:{port}\"\nhosts = [\"127.0.0.1\"]\ndefault = true"
            ));
        let mut gateway = Gateway::prepare(plan);
        more(&gateway);
        gateway.launch();
        gateway.wait_until_ready();
        Server { gateway, port }
    }

    /// Returns a join token for a gateway with this name.
    pub fn join_token(&self, name: &str) -> String {
        self.join_token_with(name, &[])
    }

    pub fn join_token_with(&self, name: &str, more: &[&str]) -> String {
        let roles = ["--role", "management-point", "--role", "distribution-point"];
        let named = ["site", "join-token", name, "--host", Gateway::HOST];
        self.said(&[&named, &roles[..], more].concat())
    }

    /// Runs a command on the server, which must succeed. Returns its output.
    pub fn said(&self, args: &[&str]) -> String {
        let out = self.gateway.command(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    pub fn bulk(&self) -> String {
        self.said(&["token", "bulk"])
    }
}

/// A remote gateway, not started yet.
pub fn elsewhere(backend: &str, name: &str, token: &str, more: &str) -> Gateway {
    elsewhere_with(backend, name, token, more, "")
}

/// The same with keys of the site system.
pub fn elsewhere_with(
    backend: &str,
    name: &str,
    token: &str,
    more: &str,
    site_system: &str,
) -> Gateway {
    let plan = Plan::to(backend)
        .sections(&format!("[site_server]\nname = \"{name}\"\njoin = \"file:join-token\"\n{more}"))
        .site_system("token_service = true")
        .site_system(site_system);
    let gateway = Gateway::prepare(plan);
    sitegate::secret::write_private(&gateway.path("join-token"), token.as_bytes()).unwrap();
    gateway
}

/// A remote gateway that has joined and serves.
pub fn joined(backend: &str, name: &str, server: &Server) -> Gateway {
    let mut gateway = elsewhere(backend, name, &server.join_token(name), "");
    gateway.launch();
    gateway.wait_until_ready();
    gateway
}

/// A client of a gateway, which trusts the exported roots.
pub fn client(gateway: &Gateway) -> SimClient {
    client_of(gateway, &std::fs::read_to_string(gateway.path("root.pem")).unwrap())
}

fn client_of(gateway: &Gateway, roots: &str) -> SimClient {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = Trust::new(roots, provider).unwrap();
    SimClient::new(SocketAddr::from(([127, 0, 0, 1], gateway.port)), Gateway::HOST, &trust)
}

pub fn device() -> SimDevice {
    SimDevice::new(SignerKind::P256, ISSUER, PATH).unwrap()
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The status of a request with a token, and the code of its refusal.
pub fn ask(runtime: &Runtime, client: &mut SimClient, token: &str, path: &str) -> (u16, String) {
    let request = SimRequest::get(path).bearer(token);
    let answer = runtime.block_on(client.fetch(&request)).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, body["code"].as_str().unwrap_or_default().to_owned())
}

pub fn registered(
    runtime: &Runtime,
    client: &mut SimClient,
    bulk: &str,
) -> Result<(SimDevice, String), DeviceError> {
    let mut device = device();
    runtime.block_on(device.register(client, Some(bulk), json!({})))?;
    let token = runtime.block_on(device.token(client, &[], now()))?;
    Ok((device, token))
}

#[test]
fn a_gateway_that_was_away_gets_what_has_changed() {
    let nginx = Nginx::start();
    let server = Server::start(&nginx.url());
    let mut gateway = joined(&nginx.url(), "gw1", &server);
    let blocks = |gateway: &Gateway| gateway.status()["site_server"]["blocks"].as_u64();
    gateway.kill();
    for n in 0..12 {
        server.said(&["site", "block", "--no-wait", "--user", &format!("user-{n}")]);
    }
    gateway.launch();
    gateway.wait_until_ready();
    eventually("the blocks are in force", || blocks(&gateway) == Some(12));
    gateway.assert_logged("a change of the bundle is in force");

    // What is missing on disk is noticed, and fetched.
    gateway.kill();
    let path = gateway.path("state/site-server/bundle-deltas.jws");
    let deltas = std::fs::read_to_string(&path).unwrap();
    let (_, without_the_first) = deltas.split_once('\n').unwrap();
    std::fs::write(&path, without_the_first).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    gateway.assert_logged("the bundle on disk is rejected");
    eventually("the blocks are in force again", || blocks(&gateway) == Some(12));
    server.said(&["site", "unblock", "--user", "user-0"]);
    eventually("a block is lifted", || blocks(&gateway) == Some(11));
}

#[test]
fn a_remote_gateway_gets_certificate_keys_and_blocks() {
    let nginx = Nginx::start();
    let server = Server::start(&nginx.url());
    let mut gateway = joined(&nginx.url(), "gw1", &server);
    let runtime = runtime();

    // The site issued its certificate, for a key that never left the gateway.
    let (root, theirs) = (server.gateway.path("root.pem"), gateway.path("root.pem"));
    assert_eq!(std::fs::read(root).unwrap(), std::fs::read(theirs).unwrap());
    let status = gateway.status();
    assert_eq!(status["site_systems"][0]["certificate"]["source"], "site-issued", "{status}");
    let pem = gateway.path("state/site-server/certificates/mp01/tls.pem");
    let pem = std::fs::read_to_string(pem).unwrap();
    let key = pem.split("PRIVATE KEY-----\n").nth(1).unwrap().lines().next().unwrap();
    let found = Command::new("grep").args(["-rqF", key]).arg(server.gateway.dir.path()).status();
    assert_eq!(found.unwrap().code(), Some(1), "the key has not left the gateway");
    let listed: Value =
        serde_json::from_str(&server.said(&["site", "gateway", "list", "--format", "json"]))
            .unwrap();
    assert_eq!((&listed[0]["gateway"], &listed[0]["state"]), (&json!("gw1"), &json!("joined")));

    // Clients register and get their tokens through it, and are known everywhere.
    let mut at_gateway = client(&gateway);
    let (device, token) = registered(&runtime, &mut at_gateway, &server.bulk()).unwrap();
    assert_eq!(ask(&runtime, &mut at_gateway, &token, POLICY).0, 200);
    let mut at_server = client(&server.gateway);
    assert_eq!(ask(&runtime, &mut at_server, &token, POLICY).0, 200, "the site's own as well");

    let id = device.id().unwrap().to_owned();
    server.said(&["site", "block", &id]);
    let blocked = Instant::now();
    eventually("the gateway denies", || ask(&runtime, &mut at_gateway, &token, POLICY).0 == 403);
    println!("from block to denied elsewhere: {:?}", blocked.elapsed());
    assert!(blocked.elapsed() < Duration::from_secs(10), "ten times the goal");

    // Restarted without its site server, it serves from disk, and still has the blocklist.
    let mut server = server;
    server.gateway.kill();
    std::fs::remove_file(gateway.path("join-token")).unwrap();
    gateway.kill();
    gateway.launch();
    gateway.wait_until_ready();
    at_gateway.close();
    let denied = ask(&runtime, &mut at_gateway, &token, POLICY);
    assert_eq!(denied, (403, "device.blocked".to_owned()));
    let mut stranger = self::device();
    let refused = runtime.block_on(stranger.register(&mut at_gateway, Some("x.y.z"), json!({})));
    assert_eq!(
        refused.unwrap_err().code(),
        Some("service.store"),
        "nobody is there to register it"
    );

    // It catches up by itself.
    server.gateway.launch();
    server.gateway.wait_until_ready();
    server.said(&["site", "unblock", &id]);
    eventually("it is let in again", || {
        at_gateway.close();
        ask(&runtime, &mut at_gateway, &token, POLICY).0 == 200
    });
}

/// One client of a gateway: its requests, and its failures.
struct Life {
    device: SimDevice,
    token: String,
    requests: u64,
    /// Requests for which one retry was not enough.
    lost: Vec<String>,
}

/// Retries at once, as clients do. The retry must succeed.
macro_rules! within_one_retry {
    ($life:expr, $client:expr, $what:literal, $try:expr) => {{
        $life.requests += 1;
        match $try.await {
            Ok(done) => Some(done),
            Err(_) => {
                $client.close();
                match $try.await {
                    Ok(done) => Some(done),
                    Err(error) => {
                        $life.lost.push(format!("{}: {error}", $what));
                        None
                    }
                }
            }
        }
    }};
}

/// Registers, and then works and renews until `stop`.
async fn live(
    mut client: SimClient,
    bulk: String,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Life {
    let (device, token) = (device(), String::new());
    let mut life = Life { device, token, requests: 0, lost: Vec::new() };
    let first = within_one_retry!(
        life,
        client,
        "register",
        life.device.register(&mut client, Some(&bulk), json!({}))
    );
    if first.is_none() {
        return life;
    }
    while !*stop.borrow() {
        let renewed =
            within_one_retry!(life, client, "renew", life.device.token(&mut client, &[], now()));
        let Some(token) = renewed else { return life };
        life.token = token;
        for _ in 0..5 {
            let request = SimRequest::get(POLICY).bearer(&life.token);
            let answer = within_one_retry!(life, client, "work", client.fetch(&request));
            match answer.map(|answer| answer.status) {
                Some(200) => {}
                other => {
                    life.lost.push(format!("work: {other:?}"));
                    return life;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    life
}

/// Two site servers on one PostgreSQL, with one seal.
pub fn two_servers(backend: &str, postgres: &Postgres) -> [Server; 2] {
    [(); 2].map(|()| server_of(backend, postgres, |_| {}))
}

/// One of several servers with one store, after `change` has prepared its configuration.
pub fn server_of(backend: &str, postgres: &Postgres, change: impl FnOnce(&Gateway)) -> Server {
    let url = postgres.url();
    let put = |gateway: &Gateway| {
        let write = |name: &str, text: &str| {
            sitegate::secret::write_private(&gateway.path(name), text.as_bytes()).unwrap();
        };
        write("store", &url);
        write("seal", &"0123456789abcdef".repeat(3));
        change(gateway);
    };
    Server::prepared(backend, "seal = \"file:seal\"", "store = \"file:store\"", put)
}

#[test]
fn a_site_of_two_servers_survives_the_loss_of_one() {
    let nginx = Nginx::start();
    let postgres = Postgres::durable();
    let [mut one, mut two] = two_servers(&nginx.url(), &postgres);
    let root = |server: &Server| std::fs::read(server.gateway.path("root.pem")).unwrap();
    assert_eq!(root(&one), root(&two), "they are one site");
    let gateways: Vec<Gateway> = [("gw1", &one), ("gw2", &two), ("gw3", &one)]
        .map(|(name, server)| joined(&nginx.url(), name, server))
        .into();
    let servers = || {
        let shown = gateways[0].command(&["site", "bundle", "show", "--format", "json"]).output();
        let shown: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap_or_default();
        shown["servers"].as_array().map_or(0, Vec::len)
    };
    eventually("gateways know both servers", || servers() == 2);

    let bulk = one.bulk();
    let (told, stop) = tokio::sync::watch::channel(false);
    let many =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lives: Vec<_> = (0..50)
        .map(|n| many.spawn(live(client(&gateways[n % 3]), bulk.clone(), stop.clone())))
        .collect();
    let given = |server: &Server| {
        server.gateway.metric("sitegate_token_service_requests_total{endpoint=\"token\"")
    };
    eventually("all work", || given(&one) + given(&two) > 150.0);

    // A block reaches every gateway, from either server.
    let runtime = runtime();
    let mut took = Vec::new();
    let mut gone = Vec::new();
    for server in [&one, &two, &one, &two, &one, &two, &one] {
        let mut clients: Vec<SimClient> = gateways.iter().map(client).collect();
        let (device, token) = registered(&runtime, &mut clients[0], &bulk).unwrap();
        for client in &mut clients {
            assert_eq!(ask(&runtime, client, &token, POLICY).0, 200);
        }
        server.said(&["site", "block", device.id().unwrap()]);
        let blocked = Instant::now();
        for client in &mut clients {
            eventually("it is denied", || ask(&runtime, client, &token, POLICY).0 == 403);
        }
        took.push(blocked.elapsed());
        gone.push(token);
    }
    took.sort();
    println!("from block to denied at all three: median {:?}, worst {:?}", took[3], took[6]);
    assert!(took[6] < Duration::from_secs(10), "ten times the goal");

    // One server is killed midway; the other takes over all work.
    one.gateway.kill();
    let before = given(&two);
    eventually("the other one goes on", || given(&two) > before + 200.0);
    told.send(true).unwrap();
    let lives: Vec<Life> = lives.into_iter().map(|life| many.block_on(life).unwrap()).collect();
    let requests: u64 = lives.iter().map(|life| life.requests).sum();
    let lost: Vec<&String> = lives.iter().flat_map(|life| &life.lost).collect();
    println!("50 clients, {requests} requests, {} lost", lost.len());
    assert!(lost.is_empty(), "{lost:?}");
    let ids: std::collections::BTreeSet<_> = lives.iter().map(|life| life.device.id()).collect();
    assert_eq!(ids.len(), 50, "each has one id, and nobody another's");
    let listed = two.said(&["site", "devices", "--format", "json"]);
    for life in &lives {
        assert!(listed.contains(life.device.id().unwrap()), "nothing acknowledged is lost");
    }

    // Both are down: a client with a token works, a blocked one stays blocked; then they catch up.
    two.gateway.kill();
    let (works, is_blocked) = (&lives[7].token, &gone[0]);
    for gateway in &gateways {
        let mut client = client(gateway);
        assert_eq!(ask(&runtime, &mut client, works, POLICY).0, 200);
        assert_eq!(ask(&runtime, &mut client, is_blocked, POLICY).0, 403);
    }
    one.gateway.launch();
    one.gateway.wait_until_ready();
    one.said(&["site", "block", lives[7].device.id().unwrap()]);
    for gateway in &gateways {
        let mut client = client(gateway);
        eventually("it catches up", || ask(&runtime, &mut client, works, POLICY).0 == 403);
    }
}

/// Returns a changed join token.
fn altered(token: &str, change: impl FnOnce(&mut Value)) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let coded = token.strip_prefix("sitegate-join.").unwrap();
    let mut said = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(coded).unwrap()).unwrap();
    change(&mut said);
    format!("sitegate-join.{}", URL_SAFE_NO_PAD.encode(said.to_string()))
}

/// Checks the log of a gateway that may not join.
fn turned_away(mut gateway: Gateway, why: &str) {
    gateway.launch();
    eventually(why, || gateway.log().contains(why));
    let (ready, _) = gateway.get(gateway.metrics, "/readyz").unwrap();
    assert_eq!(ready, 503, "it has no certificate");
    gateway.kill();
}

#[test]
fn a_join_token_is_good_once_and_for_its_own_name() {
    let nginx = Nginx::start();
    let server = Server::start(&nginx.url());
    let token = server.join_token("gw1");
    turned_away(elsewhere(&nginx.url(), "gw2", &token, ""), "join.name");
    let mut first = elsewhere(&nginx.url(), "gw1", &token, "");
    first.launch();
    first.wait_until_ready();
    turned_away(elsewhere(&nginx.url(), "gw1", &token, ""), "join.used");
    let unknown = altered(&token, |said| said["secret"] = json!("A".repeat(43)));
    turned_away(elsewhere(&nginx.url(), "gw1", &unknown, ""), "join.unknown");
    turned_away(
        elsewhere(&nginx.url(), "gw1", "nonsense", ""),
        "does not hold a join token, or the token is cut short",
    );
    let audit = server.said(&["site", "audit"]);
    assert!(audit.contains("gateway.allowed") && audit.contains("gateway.joined"), "{audit}");
    assert!(!audit.contains("sitegate-join"), "{audit}");
}

#[test]
fn a_missing_join_token_is_reported_with_its_path() {
    let gateway = elsewhere("http://127.0.0.1:1", "gw1", "", "");
    let place = gateway.path("join-token");
    std::fs::remove_file(&place).unwrap();
    let told = format!("the join token in {}: No such file", place.display());
    let check = gateway.command(&["check"]).output().unwrap();
    assert!(String::from_utf8_lossy(&check.stdout).contains(&told), "{check:?}");
    turned_away(gateway, &told);
}

#[test]
fn a_following_gateway_refers_site_commands_to_its_server() {
    let gateway = elsewhere("http://127.0.0.1:1", "gw1", "", "");
    for command in [&["site", "devices"][..], &["site", "audit"], &["token", "list"]] {
        let out = gateway.command(command).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(told.contains("follows a site server"), "{command:?}: {told}");
    }
}

#[test]
fn a_site_server_with_another_root_key_learns_nothing() {
    let nginx = Nginx::start();
    let (server, other) = (Server::start(&nginx.url()), Server::start(&nginx.url()));
    let (token, foreign) = (server.join_token("gw1"), other.join_token("gw1"));
    let root = |token: &str| {
        let mut root = Value::Null;
        altered(token, |said| root = said["root"].clone());
        root
    };
    let mixed = altered(&token, |said| said["root"] = root(&foreign));
    turned_away(elsewhere(&nginx.url(), "gw1", &mixed, ""), "root key is not the one");
    let listed = server.said(&["site", "gateway", "list", "--format", "json"]);
    assert_eq!(listed, "[]", "the secret has not left the gateway");
    // With the right root, but another bundle key than the token names.
    let mut key = Value::Null;
    altered(&foreign, |said| key = said["bundle_key"].clone());
    let mixed = altered(&token, |said| said["bundle_key"] = key.clone());
    turned_away(elsewhere(&nginx.url(), "gw1", &mixed, ""), "bundle.signature");
}

#[test]
fn only_a_good_bundle_is_imported_into_a_closed_network() {
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    let gateway = joined(&nginx.url(), "gw1", &server);
    let other = Server::start(&nginx.url());
    let runtime = runtime();
    let mut client = client(&gateway);
    let (device, token) = registered(&runtime, &mut client, &server.bulk()).unwrap();
    let export = |server: &Server| server.said(&["site", "bundle", "export"]);
    let older = export(&server);
    let import = |text: &str| {
        let path = gateway.path("carried.jws");
        std::fs::write(&path, text).unwrap();
        let mut command = gateway.command(&["site", "bundle", "import"]);
        let out = command.arg(&path).output().unwrap();
        (out.status.success(), String::from_utf8(out.stderr).unwrap())
    };
    eventually("the bundle is there", || import(&older).0);
    // The site server moves to an address that the gateway does not know: no bundle arrives.
    server.gateway.kill();
    let text = server.gateway.config_text();
    let moved = text.replace(&format!("127.0.0.1:{}", server.port), "127.0.0.1:0");
    server.gateway.write_config(&moved);
    server.gateway.launch();
    server.gateway.wait_until_ready();
    server.said(&["site", "block", device.id().unwrap()]);
    let mut newest = older.clone();
    eventually("there is a newer bundle", || {
        newest = export(&server);
        newest != older
    });
    let blocks = |text: &str| OpenedBundle::peek(text.trim_end()).unwrap().blocks.len();
    eventually("it has the block", || {
        newest = export(&server);
        blocks(&newest) > 0
    });
    assert_eq!(ask(&runtime, &mut client, &token, POLICY).0, 200, "nobody has told the gateway");
    let (taken, told) = import(&newest);
    assert!(taken, "{told}");
    eventually("it denies", || ask(&runtime, &mut client, &token, POLICY).0 == 403);
    server.gateway.kill();

    for (text, why) in [
        (export(&other), "bundle.signature"),
        (older.clone(), "bundle.older"),
        ("nonsense".to_owned(), "bundle.malformed"),
        (newest.replacen('.', ".A", 1), "bundle.signature"),
    ] {
        let (taken, told) = import(&text);
        assert!(!taken && told.contains(why), "{told}");
    }
    let (taken, told) = import(&newest);
    assert!(taken && told.contains("in force already"), "{told}");

    // A file that bypasses the command is judged too.
    std::fs::write(gateway.path("state/site-server/incoming.jws"), older).unwrap();
    eventually("it is refused", || {
        gateway.metric("sitegate_bundles_refused_total{reason=\"bundle.older\"}") > 0.0
    });
    assert_eq!(ask(&runtime, &mut client, &token, POLICY).0, 403, "who is blocked stays so");
}

#[test]
fn a_revoked_gateway_is_refused_and_its_certificate_blocked() {
    let nginx = Nginx::start();
    let server = Server::start(&nginx.url());
    let mut gateway = joined(&nginx.url(), "gw1", &server);
    let witness = joined(&nginx.url(), "gw2", &server);
    server.said(&["site", "gateway", "revoke", "gw1", "--reason", "sold"]);
    eventually("it is refused", || gateway.log().contains("gateway.unknown"));
    eventually("others know its certificate", || {
        let shown = witness.command(&["site", "bundle", "show", "--format", "json"]).output();
        let shown: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
        shown["certificates_blocked"] == 1
    });
    let runtime = runtime();
    let refused = registered(&runtime, &mut client(&gateway), &server.bulk());
    assert!(refused.is_err(), "it passes nothing on");
    // With a new token it joins again, under the same name.
    let token = server.join_token("gw1");
    gateway.kill();
    std::fs::remove_file(gateway.path("state/site-server/trust.json")).unwrap();
    sitegate::secret::write_private(&gateway.path("join-token"), token.as_bytes()).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    eventually("clients register there", || {
        registered(&runtime, &mut client(&gateway), &server.bulk()).is_ok()
    });
}

#[test]
fn an_expired_bundle_serves_or_denies_as_configured() {
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    let mut gateway = joined(&nginx.url(), "gw1", &server);
    let runtime = runtime();
    let mut client = client(&gateway);
    // A token that lives longer than the bundle.
    let issue = ["token", "issue", "--kind", "boot-media", "--lifetime", "7d", "--device", DEVICE];
    let token = server.said(&issue);
    server.gateway.kill();
    let text = gateway.config_text();
    let mut ask_when = |stale: &str, ahead: &str| {
        let text = text.replace("name = \"gw1\"", &format!("name = \"gw1\"\nstale = \"{stale}\""));
        gateway.write_config(&text);
        gateway.kill();
        gateway.relaunch(Plan::to(&nginx.url()).first(&[], ahead));
        gateway.wait_until_ready();
        client.close();
        ask(&runtime, &mut client, &token, POLICY)
    };
    let later = format!("export LD_PRELOAD={} FAKETIME=+97h", faketime());
    assert_eq!(ask_when("deny", "true").0, 200, "its bundle is good for days");
    assert_eq!(ask_when("serve", &later).0, 200, "the site server is only away");
    assert_eq!(ask_when("deny", &later), (503, "site.unheard".to_owned()));
}

/// Runs a step of a rollover. Returns its success, and its output.
fn step(server: &Server, args: &[&str]) -> (bool, String) {
    let out = server.gateway.command(&[&["site", "rollover"], args].concat()).output().unwrap();
    (out.status.success(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn a_rollover_waits_for_remote_gateways() {
    let nginx = Nginx::start();
    let server = Server::start(&nginx.url());
    let gateway = joined(&nginx.url(), "gw1", &server);
    let runtime = runtime();
    let (_, token) = registered(&runtime, &mut client(&gateway), &server.bulk()).unwrap();
    // Clients import the currently exported roots.
    let import = || {
        let roots = gateway.command(&["site", "export-root"]).output().unwrap().stdout;
        std::fs::write(gateway.path("root.pem"), &roots).unwrap();
        String::from_utf8(roots).unwrap().matches("BEGIN CERTIFICATE").count()
    };
    let works = || assert_eq!(ask(&runtime, &mut client(&gateway), &token, POLICY).0, 200);
    let served = || gateway.status()["site_systems"][0]["certificate"]["thumbprint"].to_string();

    for thing in ["bundle-key", "root", "intermediate"] {
        // A gateway that does not answer has not received the published key.
        gateway.signal("STOP");
        assert!(step(&server, &["publish", thing]).0, "{thing}");
        let sure = ["switch", thing, "--clients-have-it"];
        let switch = if thing == "root" { &sure[..] } else { &sure[..2] };
        if thing != "intermediate" {
            let (taken, told) = step(&server, switch);
            assert!(!taken && told.contains("gateways_lack") && told.contains("gw1"), "{told}");
        }
        gateway.signal("CONT");
        if thing == "root" {
            eventually("the gateway hands out both roots", || import() == 2);
        }
        let before = served();
        works();
        eventually("the gateway has it", || step(&server, switch).0);
        works();
        if thing != "bundle-key" {
            eventually("it has a certificate of the new one", || served() != before);
            works();
        }
        eventually("nothing hangs from the old one", || step(&server, &["retire", thing]).0);
        works();
    }
    eventually("only the new root is handed out", || import() == 1);
    works();
    // It receives blocks in bundles that the new key signs.
    let device = server.said(&["site", "devices", "--format", "json"]);
    let device: Value = serde_json::from_str(&device).unwrap();
    server.said(&["site", "block", device[0]["device"].as_str().unwrap()]);
    eventually("it denies", || ask(&runtime, &mut client(&gateway), &token, POLICY).0 == 403);
    let shown = server.said(&["site", "show"]);
    assert!(shown.contains("SMS Role SSL Certificate of mp01 at gw1: in force"), "{shown}");
}

#[test]
fn a_rollover_at_one_site_server_is_one_at_the_other() {
    let nginx = Nginx::start();
    let postgres = Postgres::start();
    let [one, two] = two_servers(&nginx.url(), &postgres);
    let root = |server: &Server| server.said(&["site", "export-root"]);
    let before = root(&one);
    for args in [&["publish", "root"][..], &["switch", "root", "--clients-have-it"]] {
        assert!(step(&one, args).0, "{args:?}");
        eventually("the other one has it", || root(&one) == root(&two));
    }
    eventually("leaves hang from the new one", || step(&two, &["retire", "root"]).0);
    eventually("and back", || root(&one) == root(&two));
    assert_ne!(root(&one), before);
    let mut client = client_of(&two.gateway, &root(&two));
    let answer = runtime().block_on(client.fetch(&SimRequest::get("/SMS_MP/.sms_aut?MPLIST")));
    assert_eq!(answer.unwrap().status, 200, "it serves a certificate of the new root");
}

#[test]
fn a_bundle_the_disk_rejects_is_in_force_at_once() {
    let nginx = Nginx::start();
    let server = Server::start(&nginx.url());
    let gateway = joined(&nginx.url(), "gw1", &server);
    let runtime = runtime();
    let mut client = client(&gateway);
    let (device, token) = registered(&runtime, &mut client, &server.bulk()).unwrap();
    let in_force = || gateway.status()["site_server"]["version"].as_u64().unwrap();
    let on_disk = || {
        let shown = gateway.command(&["site", "bundle", "show", "--format", "json"]).output();
        let shown: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
        shown["version"].as_u64().unwrap()
    };
    eventually("it is at rest", || in_force() == on_disk());
    gateway.limit("--fsize=1:unlimited");
    server.said(&["site", "block", device.id().unwrap()]);
    eventually("it denies", || ask(&runtime, &mut client, &token, POLICY).0 == 403);
    assert!(on_disk() < in_force(), "the disk has not taken it");
    gateway.limit("--fsize=unlimited:unlimited");
    eventually("it is on disk", || on_disk() == in_force());
}
