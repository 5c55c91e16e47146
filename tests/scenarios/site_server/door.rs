//! The site server's boundary, as the gateway in front of it uses it: it trusts the gateway's facts
//! about the connection, and no claims in the request.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use sitegate::cert::issuer::{CertAlgorithm, Scope};
use sitegate::cert::request::request;
use sitegate::clock::{Clock, Hands};
use sitegate::local_service::{LocalService, local_service};
use sitegate::site::server::{BundlePublisher, BundleSources, SiteServer};
use sitegate::site::store::{Joining, Store, StorePlace};
use sitegate::site::{Authority, AuthorityParams, SiteTokens, serve};
use sitegate::token::{Bundle, SignerKind, join_fingerprint};
use sitegate_forge::{Order, Pki};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use uuid::Uuid;

const SECRET: &str = "a-secret-that-only-the-holder-of-the-token-knows";
/// `x5t#S256` of gateways' certificates, as the front gateway writes them.
const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const TWO: &str = "2222222222222222222222222222222222222222222222222222222222222222";

struct Door {
    _dir: tempfile::TempDir,
    service: LocalService,
    store: Store,
    hands: Hands,
    clock: Clock,
    _stop: watch::Sender<bool>,
}

/// The sources of a site server's bundle, without an authority.
fn sources(state: &Path, server: &str, issuer: &str) -> BundleSources {
    let kind = SignerKind::P256;
    let tokens =
        SiteTokens::open(state, "PS1", kind, Some(Uuid::from_u128(7)), issuer, start()).unwrap();
    BundleSources {
        site: "PS1".into(),
        servers: vec![server.into()],
        origins: vec!["https://mp".into()],
        tokens: Arc::new(tokens),
        authority: None,
        state: state.to_owned(),
        life_s: 86_400,
        bytes_max: usize::MAX,
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

impl Door {
    async fn open() -> Door {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hands) = Clock::manual(start());
        let state = dir.path();
        let store =
            Store::open(&StorePlace::Sqlite(state.join("store/site.db")), start()).await.unwrap();
        let params = AuthorityParams {
            site_code: "PS1".into(),
            scope: Scope::new(&["contoso.com"]).unwrap(),
            algorithm: CertAlgorithm::P256,
            whole_chains: Default::default(),
            roots: Vec::new(),
            crl_url: None,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let authority = Arc::new(Authority::new(state, params, provider));
        authority.prepare(start()).unwrap();
        let sources = BundleSources {
            authority: Some(authority.clone()),
            ..sources(state, "https://site01:8443", "https://mp/oauth2")
        };
        let (publisher, published) =
            BundlePublisher::start(store.clone(), sources, clock.clone()).await;
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(publisher.run(stopped.clone()));
        let server = SiteServer {
            site: "PS1".into(),
            state: state.to_owned(),
            store: store.clone(),
            authority: Some(authority),
            published,
            token_service: None,
            clock: clock.clone(),
        };
        let (service, listener) = local_service("the site server");
        let (router, seen) = server.router();
        let until = stopped.clone();
        tokio::spawn(async move { seen.run(until).await });
        tokio::spawn(serve(listener, router, stopped));
        Door { _dir: dir, service, store, hands, clock, _stop: stop }
    }

    async fn allow(&self, name: &str, roles: &[&str]) {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let joining = Joining {
            fingerprint: &join_fingerprint(&format!("{SECRET}{name}")),
            name,
            hosts: &["gw.contoso.com".to_owned()],
            roles: &roles,
            expires: start() + jiff::SignedDuration::from_hours(1),
        };
        self.store.allow_join(&joining, "admin", start()).await.unwrap();
    }

    /// Sends a request on a connection with this proven certificate. Returns status, and JSON or
    /// text.
    async fn ask(&self, proven: &str, line: &str, body: &Value) -> (u16, Value) {
        ask(&self.service, proven, line, body).await
    }

    async fn join(&self, proven: &str, name: &str) -> (u16, Value) {
        let body = json!({ "name": name, "secret": format!("{SECRET}{name}") });
        self.ask(proven, "POST /sitegate/site/v1/join", &body).await
    }

    /// Returns the first gateway's next bundle after this version.
    async fn next_bundle(&self, held: u64) -> Bundle {
        let poll = format!("GET /sitegate/site/v1/bundle?held={held}");
        let (status, text) = self.ask(ONE, &poll, &Value::Null).await;
        assert_eq!(status, 200, "{text}");
        Bundle::peek(text.as_str().unwrap()).unwrap()
    }

    async fn certificate(&self, proven: &str, hosts: &[&str], csr: &str) -> (u16, Value) {
        let body = json!({ "site_system": "mp", "hosts": hosts, "request": csr });
        self.ask(proven, "POST /sitegate/site/v1/certificate", &body).await
    }
}

async fn ask(service: &LocalService, proven: &str, line: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = service.connect().await.unwrap();
    let proof = match proven {
        "" => String::new(),
        proven => format!("Sitegate-Client-Cert-Proven: {proven}\r\n"),
    };
    let text = format!(
        "{line} HTTP/1.1\r\nHost: site01\r\nX-Forwarded-For: 192.0.2.7\r\n{proof}Connection: close\
         \r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let said = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(said).unwrap_or_else(|_| said.into()))
}

fn code((status, said): (u16, Value)) -> (u16, String) {
    (status, said["code"].as_str().unwrap_or_default().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn an_expired_join_token_admits_no_gateway() {
    let door = Door::open().await;
    door.allow("gw1", &[]).await;
    door.hands.advance(3_600);
    assert_eq!(code(door.join(ONE, "gw1").await), refused(403, "join.expired"));
    door.hands.advance(-1);
    assert_eq!(door.join(ONE, "gw1").await.0, 200);
    assert_eq!(code(door.join(TWO, "gw1").await), refused(403, "join.used"));
    assert_eq!(code(door.join("", "gw1").await), refused(401, "gateway.unknown"));
}

/// A gateway begins to send a bundle, without its body. Returns the status: of the response, or 100
/// if the server waits for the body.
async fn begins_to_show(door: &Door, held: u64) -> (u16, DuplexStream) {
    let mut stream = door.service.connect().await.unwrap();
    let head = format!(
        "POST /sitegate/site/v1/held?held={held} HTTP/1.1\r\nHost: site01\r\n\
         Sitegate-Client-Cert-Proven: {ONE}\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.unwrap());
    }
    let line = String::from_utf8(line).unwrap();
    (line.split(' ').nth(1).unwrap().parse().unwrap(), stream)
}

#[tokio::test]
async fn a_bundle_that_the_site_server_knows_is_not_read() {
    let door = Door::open().await;
    door.allow("gw1", &[]).await;
    let (_, said) = door.join(ONE, "gw1").await;
    let joined = Bundle::peek(said["bundle"].as_str().unwrap()).unwrap();
    assert_eq!(begins_to_show(&door, joined.version).await.0, 204);
}

#[tokio::test]
async fn two_bundles_are_read_at_once_and_no_more() {
    let door = Door::open().await;
    door.allow("gw1", &[]).await;
    assert_eq!(door.join(ONE, "gw1").await.0, 200);
    let unknown = u64::from(u32::MAX) << 20;
    let first = begins_to_show(&door, unknown).await;
    let second = begins_to_show(&door, unknown).await;
    assert_eq!((first.0, second.0), (100, 100));
    assert_eq!(begins_to_show(&door, unknown).await.0, 429);
}

#[tokio::test]
async fn only_a_joined_gateway_gets_answers() {
    let door = Door::open().await;
    door.allow("gw1", &[]).await;
    let (status, said) = door.join(ONE, "gw1").await;
    assert_eq!(status, 200);
    let joined = Bundle::peek(said["bundle"].as_str().unwrap()).unwrap();
    assert_eq!(joined.settings.site, "PS1");
    let poll = "GET /sitegate/site/v1/bundle?held=0";
    for stranger in ["", TWO] {
        assert_eq!(
            code(door.ask(stranger, poll, &Value::Null).await),
            refused(401, "gateway.unknown")
        );
        let (csr, _) = request(CertAlgorithm::P256).unwrap();
        let asked = door.certificate(stranger, &["gw.contoso.com"], &csr).await;
        assert_eq!(code(asked), refused(401, "gateway.unknown"));
        let forward = "POST /sitegate/site/v1/token-service/token";
        assert_eq!(
            code(door.ask(stranger, forward, &Value::Null).await),
            refused(401, "gateway.unknown")
        );
    }
    // That bundle, or the next, names its host.
    let named = |b: &Bundle| b.settings.origins.contains(&"https://gw.contoso.com".to_owned());
    let mut bundle = joined;
    while !named(&bundle) {
        bundle = door.next_bundle(bundle.version).await;
    }

    // It announces another certificate; the previous one stays valid for a while.
    let thumbprint = "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI";
    let next = json!({ "thumbprint": thumbprint });
    let told = door.ask(ONE, "POST /sitegate/site/v1/identity", &next).await;
    assert_eq!(told.0, 204);
    assert_eq!(door.ask(TWO, poll, &Value::Null).await.0, 200);
    let odd = json!({ "thumbprint": "x" });
    let told = door.ask(ONE, "POST /sitegate/site/v1/identity", &odd).await;
    assert_eq!(code(told), refused(400, "request.malformed"));
    // A gateway is not known by an expired certificate.
    door.hands.advance(90 * 86_400);
    assert_eq!(code(door.ask(TWO, poll, &Value::Null).await), refused(401, "gateway.unknown"));
}

#[tokio::test]
async fn a_gateway_gets_certificates_only_for_its_hosts() {
    let door = Door::open().await;
    door.allow("gw1", &[]).await;
    door.join(ONE, "gw1").await;
    let (csr, _) = request(CertAlgorithm::P256).unwrap();
    let (status, said) = door.certificate(ONE, &["gw.contoso.com"], &csr).await;
    assert_eq!(status, 200, "{said}");
    assert!(said["chain"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    for hosts in [&["mp01.contoso.com"][..], &["gw.contoso.com", "mp01.contoso.com"]] {
        let asked = door.certificate(ONE, hosts, &csr).await;
        assert_eq!(code(asked), refused(403, "certificate.hosts"), "{hosts:?}");
    }
    assert_eq!(code(door.certificate(ONE, &[], &csr).await), refused(400, "request.malformed"));
    let other = Pki::new("Other", start()).unwrap();
    let certificate = other.issue(&Order::fit(&["gw.contoso.com"], start())).unwrap().leaf;
    for bad in ["", &certificate, &csr[..csr.len() / 2]] {
        let asked = door.certificate(ONE, &["gw.contoso.com"], bad).await;
        assert_eq!(code(asked), refused(400, "certificate.request"), "{bad}");
    }
    let issued = door.store.role_certificates(door.clock.now()).await.unwrap();
    assert_eq!(issued.len(), 1, "what is refused is not issued");
    // All gateways receive a blocked certificate.
    assert!(
        door.store.block_role_certificate(&issued[0].thumbprint, "admin", start()).await.unwrap()
    );
    let mut bundle = door.next_bundle(0).await;
    while bundle.settings.revoked.is_empty() {
        // An older bundle from before the block: that of the join, or the first.
        bundle = door.next_bundle(bundle.version).await;
    }
    assert_eq!(bundle.settings.revoked, [issued[0].thumbprint.clone()]);
}

#[tokio::test]
async fn clients_get_tokens_by_way_of_management_points_alone() {
    let door = Door::open().await;
    door.allow("gw1", &["distribution-point"]).await;
    door.allow("gw2", &["management-point"]).await;
    door.join(ONE, "gw1").await;
    door.join(TWO, "gw2").await;
    let token = "POST /sitegate/site/v1/token-service/token";
    assert_eq!(code(door.ask(ONE, token, &Value::Null).await), refused(403, "service.role"));
    assert_eq!(code(door.ask(TWO, token, &Value::Null).await), refused(503, "service.away"));
}

#[tokio::test]
async fn servers_with_conflicting_settings_do_not_alternate() {
    let dir = tempfile::tempdir().unwrap();
    let place = StorePlace::Sqlite(dir.path().join("store/site.db"));
    let store = Store::open(&place, start()).await.unwrap();
    let clock = Clock::manual(start()).0;
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let publish = async |state: &Path, server: &str, issuer: &str| {
        let sources = sources(state, server, issuer);
        let (_, published) = BundlePublisher::start(store.clone(), sources, clock.clone()).await;
        published.borrow().as_ref().map(|published| published.head.version)
    };
    let first = publish(&one, "https://s1", "https://mp/oauth2").await.unwrap();
    // A server with its own keys, and one with another site name: neither may publish.
    assert_eq!(publish(&two, "https://s2", "https://mp/oauth2").await, None);
    assert_eq!(publish(&one, "https://s1", "https://other/oauth2").await, None);
    assert_eq!(store.bundle_version().await.unwrap(), first);
    // The first server knows of the second by now, and reports it to gateways.
    let next = publish(&one, "https://s1", "https://mp/oauth2").await.unwrap();
    assert!(next > first);
}

#[tokio::test]
async fn a_site_server_without_others_may_call_the_site_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let place = StorePlace::Sqlite(dir.path().join("store/site.db"));
    let store = Store::open(&place, start()).await.unwrap();
    let clock = Clock::manual(start()).0;
    let mut seen = Vec::new();
    for issuer in ["https://mp/oauth2", "https://other/oauth2"] {
        let sources = sources(dir.path(), "https://s1", issuer);
        let (_, published) = BundlePublisher::start(store.clone(), sources, clock.clone()).await;
        seen.push(published.borrow().as_ref().unwrap().head.settings.issuer.clone());
    }
    assert_eq!(seen, ["https://mp/oauth2", "https://other/oauth2"]);
}
