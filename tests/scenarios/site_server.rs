//! Gateways on other hosts: they join a site once, follow its bundle, have their certificates from
//! it, and serve on whatever becomes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sitegate::clock::Clock;
use sitegate::sim::{Client, Device, DeviceError, Request, Trust};
use sitegate::token::SignerKind;
use tokio::runtime::Runtime;

use crate::support::{Gateway, Nginx, Plan, eventually, free_port};

const PATH: &str = "/sitegate/oauth2";
const ISSUER: &str = "https://mp01.contoso.com/sitegate/oauth2";
const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";

pub fn now() -> jiff::Timestamp {
    Clock::system().now()
}

/// A site server on a port of its own, which is no gateway of clients.
pub struct Server {
    pub gateway: Gateway,
    pub port: u16,
}

impl Server {
    pub fn start(backend: &str) -> Server {
        Server::prepared(backend, "", "", |_| {})
    }

    /// With keys of `[site]` and `[token_service]`, once more is there in its folder.
    pub fn prepared(
        backend: &str,
        site: &str,
        service: &str,
        more: impl FnOnce(&Gateway),
    ) -> Server {
        let port = free_port();
        let plan = Plan::to(backend)
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

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A token by which a gateway of that name may join.
    pub fn join_token(&self, name: &str) -> String {
        self.join_token_with(name, &[])
    }

    pub fn join_token_with(&self, name: &str, more: &[&str]) -> String {
        let roles = ["--role", "management-point", "--role", "distribution-point"];
        let named = ["site", "join-token", name, "--host", Gateway::HOST];
        self.said(&[&named, &roles[..], more].concat())
    }

    /// What a command says on the server; it must succeed.
    pub fn said(&self, args: &[&str]) -> String {
        let out = self.gateway.command(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    pub fn bulk(&self) -> String {
        self.said(&["token", "bulk"])
    }
}

/// A gateway elsewhere, not started yet.
pub fn elsewhere(backend: &str, name: &str, token: &str, more: &str) -> Gateway {
    let plan = Plan::to(backend)
        .sections(&format!("[site_server]\nname = \"{name}\"\njoin = \"file:join-token\"\n{more}"))
        .site_system("token_service = true");
    let gateway = Gateway::prepare(plan);
    sitegate::secret::write_private(&gateway.path("join-token"), token.as_bytes()).unwrap();
    gateway
}

/// A gateway elsewhere that has joined and serves.
pub fn joined(backend: &str, name: &str, server: &Server) -> Gateway {
    let mut gateway = elsewhere(backend, name, &server.join_token(name), "");
    gateway.launch();
    gateway.wait_until_ready();
    gateway
}

/// A client of a gateway, with the roots that it has handed out.
pub fn client(gateway: &Gateway) -> Client {
    let root = std::fs::read_to_string(gateway.path("root.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = Trust::new(&root, provider).unwrap();
    Client::new(SocketAddr::from(([127, 0, 0, 1], gateway.port)), Gateway::HOST, &trust)
}

pub fn device() -> Device {
    Device::new(SignerKind::P256, ISSUER, PATH).unwrap()
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The status of a request with a token, and the code of its refusal.
pub fn ask(runtime: &Runtime, client: &mut Client, token: &str, path: &str) -> (u16, String) {
    let request = Request::get(path).bearer(token);
    let answer = runtime.block_on(client.fetch(&request)).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn registered(
    runtime: &Runtime,
    client: &mut Client,
    bulk: &str,
) -> Result<(Device, String), DeviceError> {
    let mut device = device();
    runtime.block_on(device.register(client, Some(bulk), json!({})))?;
    let token = runtime.block_on(device.token(client, &[], now()))?;
    Ok((device, token))
}

#[test]
fn a_gateway_elsewhere_joins_once_and_has_certificate_keys_and_blocks_from_its_site_server() {
    let nginx = Nginx::start();
    let server = Server::start(&nginx.url());
    let mut gateway = joined(&nginx.url(), "gw1", &server);
    let runtime = runtime();

    // Its certificate is the site's, for a key that never left it.
    let (root, theirs) = (server.gateway.path("root.pem"), gateway.path("root.pem"));
    assert_eq!(std::fs::read(root).unwrap(), std::fs::read(theirs).unwrap());
    let status = gateway.status();
    assert_eq!(status["site_systems"][0]["certificate"]["source"], "site-issued", "{status}");
    assert!(
        !server.gateway.path("state/authority/leaf/mp01.key").exists() || {
            let own = std::fs::read(server.gateway.path("state/authority/leaf/mp01.key")).unwrap();
            let key = "state/site-server/certificates/mp01/tls.key";
            own != std::fs::read(gateway.path(key)).unwrap()
        }
    );
    let listed: Value =
        serde_json::from_str(&server.said(&["site", "gateway", "list", "--format", "json"]))
            .unwrap();
    assert_eq!((&listed[0]["gateway"], &listed[0]["state"]), (&json!("gw1"), &json!("joined")));

    // Clients register and get their tokens by way of it, and are known everywhere.
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

    // Started again without its site server it serves by what is on disk, and knows who is blocked.
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
