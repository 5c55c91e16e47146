//! Clients get their tokens from the site: they register, prove their keys, exchange one token for
//! another, and get a code if they are refused.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::{Value, json};
use sitegate::clock::Clock;
use sitegate::purpose::Purpose;
use sitegate::token::{MintRequest, SignerKind, TokenSigner};
use sitegate_forge::{Forged, Order, Pki, Usage};
use sitegate_lab::{DeviceError, SimClient, SimDevice, SimRequest, Trust, exchange};
use tokio::runtime::Runtime;

use crate::support::{Entra, Gateway, Nginx, Plan, Postgres, eventually};

const PATH: &str = "/sitegate/oauth2";
const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";
const SMALL: &str = "/SMS_DP_SMSPKG$/PS100001/small.txt";

struct Scene {
    nginx: Nginx,
    gateway: Gateway,
    entra: Entra,
    pki: Pki,
    runtime: Runtime,
    client: SimClient,
}

impl Scene {
    fn new() -> Scene {
        Scene::with("", "")
    }

    /// Creates a scene with keys of `[token_service]` and of the site system.
    fn with(service: &str, site_system: &str) -> Scene {
        Scene::prepared(service, site_system, |_| {})
    }

    /// Creates a scene after `more` has prepared the gateway's folder.
    fn prepared(service: &str, site_system: &str, more: impl FnOnce(&Gateway)) -> Scene {
        let nginx = Nginx::start();
        let plan = Plan::to(&nginx.url())
            .sections(&format!("[token_service]\n{service}\n{}", Entra::section()))
            .site_system("token_service = true")
            .site_system(site_system);
        let mut gateway = Gateway::prepare(plan);
        let entra = Entra::new();
        let pki = Pki::new("Clients", now()).unwrap();
        std::fs::write(gateway.path("clients.pem"), pki.root()).unwrap();
        std::fs::write(gateway.path("entra.json"), entra.keys()).unwrap();
        more(&gateway);
        gateway.launch();
        gateway.wait_until_ready();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = client(&gateway);
        Scene { nginx, gateway, entra, pki, runtime, client }
    }

    fn device(&self) -> SimDevice {
        SimDevice::new(SignerKind::P256, &issuer(&self.gateway), PATH).unwrap()
    }

    fn bulk(&self, args: &[&str]) -> String {
        stdout(&self.run(&[&["token", "bulk"], args].concat()))
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.gateway.command(args);
        command.output().unwrap()
    }

    fn register(&mut self, device: &mut SimDevice, token: &str) -> Result<Value, DeviceError> {
        self.register_as(device, Some(token), json!({}))
    }

    fn register_as(
        &mut self,
        device: &mut SimDevice,
        token: Option<&str>,
        more: Value,
    ) -> Result<Value, DeviceError> {
        self.runtime.block_on(device.register(&mut self.client, token, more))
    }

    /// A device that has registered with a fresh bulk token.
    fn registered(&mut self) -> SimDevice {
        let (mut device, bulk) = (self.device(), self.bulk(&[]));
        self.register(&mut device, &bulk).unwrap();
        device
    }

    fn token(&mut self, device: &SimDevice, more: &[(&str, &str)]) -> Result<String, DeviceError> {
        self.runtime.block_on(device.token(&mut self.client, more, now()))
    }

    fn exchange(&mut self, subject: &str, more: &[(&str, &str)]) -> Result<String, DeviceError> {
        self.runtime.block_on(exchange(&mut self.client, PATH, subject, more))
    }

    /// Sends a request with curl, with or without a client certificate. Returns status and JSON.
    fn curl(&self, certificate: Option<&Forged>, path: &str, args: &[&str]) -> (u16, Value) {
        let (chain, key) = (self.gateway.path("client.crt"), self.gateway.path("client.key"));
        let mut all = args.to_vec();
        if let Some(forged) = certificate {
            std::fs::write(&chain, &forged.chain).unwrap();
            std::fs::write(&key, forged.key.as_bytes()).unwrap();
            all.extend(["--cert", chain.to_str().unwrap(), "--key", key.to_str().unwrap()]);
        }
        let answer = self.gateway.curl(path, &all);
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// The status of a request with a token, and the code of its refusal.
    fn ask(&mut self, token: &str, path: &str) -> (u16, String) {
        let request = SimRequest::get(path).bearer(token);
        let answer = self.runtime.block_on(self.client.fetch(&request)).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer.status, body["code"].as_str().unwrap_or_default().to_owned())
    }
}

fn now() -> jiff::Timestamp {
    Clock::system().now()
}

fn issuer(gateway: &Gateway) -> String {
    format!("https://{}:{}{PATH}", Gateway::HOST, gateway.port)
}

fn client(gateway: &Gateway) -> SimClient {
    let root = std::fs::read_to_string(gateway.path("root.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = Trust::new(&root, provider).unwrap();
    SimClient::new(SocketAddr::from(([127, 0, 0, 1], gateway.port)), Gateway::HOST, &trust)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

fn code<T: std::fmt::Debug>(outcome: Result<T, DeviceError>) -> String {
    let error = outcome.expect_err("this must be refused");
    error.code().unwrap_or_else(|| panic!("{error}")).to_owned()
}

fn ok() -> (u16, String) {
    (200, String::new())
}

fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_client_registers_and_works_with_site_issued_tokens() {
    let mut scene = Scene::new();
    let mut device = scene.device();
    let bulk = scene.bulk(&["--uses", "1"]);
    let told = scene.register_as(&mut device, Some(&bulk), json!({ "client_name": "PC42" }));
    let told = told.unwrap();
    assert_eq!(told["approved"], true, "{told}");
    assert_eq!(told["client_id"].as_str(), device.id());

    let token = scene.token(&device, &[]).unwrap();
    assert_eq!(claims(&token)["iss"], issuer(&scene.gateway));
    assert_eq!(claims(&token)["sub"].as_str(), device.id());
    assert_eq!(scene.ask(&token, POLICY), ok());
    scene.nginx.assert_seen(1);

    let content = scene.exchange(&token, &[("scope", "package:PS100001")]).unwrap();
    assert_eq!(scene.ask(&content, SMALL), ok());
    assert_eq!(scene.ask(&content, POLICY), (403, "token.purpose".into()));
    let other = "/SMS_DP_SMSPKG$/PS100002/small.txt";
    assert_eq!(scene.ask(&content, other), (403, "token.scope".into()));

    let audit = stdout(&scene.run(&["site", "audit"]));
    assert!(audit.contains("device.registered") && audit.contains("token.issued"), "{audit}");
    let log = scene.gateway.log() + &audit;
    for secret in [&bulk, &token, &content] {
        assert!(!log.contains(secret.rsplit('.').next().unwrap()), "a token is in the log");
    }
    let store = std::fs::read(scene.gateway.path("state/store/site.db")).unwrap();
    let wal = std::fs::read(scene.gateway.path("state/store/site.db-wal")).unwrap_or_default();
    let kept = String::from_utf8_lossy(&[store, wal].concat()).into_owned();
    assert!(!kept.contains(token.rsplit('.').next().unwrap()), "a token is in the store");
}

#[test]
fn the_metadata_say_where_everything_is_and_the_keys_verify() {
    let mut scene = Scene::new();
    let found = |scene: &mut Scene, path: &str| {
        let answer = scene.runtime.block_on(scene.client.fetch(&SimRequest::get(path))).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        serde_json::from_slice::<Value>(&answer.body).unwrap()
    };
    let inserted = format!("/.well-known/oauth-authorization-server{PATH}");
    let appended = format!("{PATH}/.well-known/oauth-authorization-server");
    let metadata = found(&mut scene, &inserted);
    assert_eq!(metadata, found(&mut scene, &appended));
    let own = issuer(&scene.gateway);
    assert_eq!(metadata["issuer"], own);
    assert_eq!(metadata["token_endpoint"], format!("{own}/token"));
    let device = scene.registered();
    let token = scene.token(&device, &[]).unwrap();
    let keys = found(&mut scene, &format!("{PATH}/jwks"));
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(keys["keys"][0].clone()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    rules.set_issuer(&[own]);
    rules.set_audience(&["urn:sccm:service"]);
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap();
}

#[test]
fn a_proof_is_taken_once() {
    let mut scene = Scene::new();
    let device = scene.registered();
    let assertion = device.assertion(now()).unwrap();
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", kind),
        ("client_assertion", assertion.as_str()),
    ];
    let mut ask = |form: &[(&str, &str)]| {
        let asked = sitegate_lab::device::ask(&mut scene.client, PATH, "token", form);
        scene.runtime.block_on(asked)
    };
    ask(&form).unwrap();
    assert_eq!(code(ask(&form)), "assertion.replayed");
}

#[test]
fn a_used_up_or_blocked_bulk_token_registers_no_device() {
    let mut scene = Scene::new();
    let (mut first, mut second) = (scene.device(), scene.device());
    let bulk = scene.bulk(&["--uses", "1"]);
    scene.register(&mut first, &bulk).unwrap();
    // A lost response costs no use.
    scene.register(&mut first, &bulk).unwrap();
    assert_eq!(code(scene.register(&mut second, &bulk)), "registration.token_used_up");

    let bulk = scene.bulk(&[]);
    let id = claims(&bulk)["UniqueId"].as_str().unwrap().to_owned();
    stdout(&scene.run(&["token", "block", &id, "--reason", "leaked"]));
    assert_eq!(code(scene.register(&mut second, &bulk)), "registration.token_blocked");
    stdout(&scene.run(&["token", "unblock", &id]));
    eventually("it registers again", || scene.register(&mut second, &bulk).is_ok());

    let mut third = scene.device();
    let device = scene.token(&first, &[]).unwrap();
    assert_eq!(code(scene.register(&mut third, &device)), "registration.purpose");
    let user = scene.entra.user("11111111-0000-4000-8000-000000000001", None);
    assert_eq!(code(scene.register(&mut third, &user)), "registration.purpose");
    let stranger = Entra::new().device("22222222-0000-4000-8000-000000000002");
    assert_eq!(code(scene.register(&mut third, &stranger)), "registration.token");
    assert_eq!(code(scene.register_as(&mut third, None, json!({}))), "registration.unproven");
}

#[test]
fn an_expired_bulk_token_registers_no_device() {
    let mut scene = Scene::new();
    let key = std::fs::read(scene.gateway.path("state/token/token.key")).unwrap();
    let signer = TokenSigner::from_pem(&key, None).unwrap();
    let issuer = issuer(&scene.gateway);
    let mut bulk_of = |days: i64| {
        let request = MintRequest {
            purpose: Purpose::Registration,
            device: None,
            user: None,
            audience: "urn:sccm:service",
            issuer: &issuer,
            hierarchy: "cdcc5e91-0000-4000-8000-000000000000".parse().unwrap(),
            lifetime_s: None,
            bound_to: None,
            scope: None,
            origins: &[],
            id: uuid::Uuid::new_v4(),
        };
        let then = jiff::Timestamp::from_second(now().as_second() - days * 86_400).unwrap();
        let token = signer.mint(&request, then).unwrap();
        let mut device = scene.device();
        scene.register(&mut device, &token)
    };
    assert_eq!(bulk_of(2).unwrap_err().code(), Some("registration.token_used_up"), "not expired");
    let error = bulk_of(4).unwrap_err();
    assert!(error.to_string().contains("token.expired"), "{error}");
    assert_eq!(error.code(), Some("registration.token"));
}

#[test]
fn a_device_blocked_in_advance_cannot_register() {
    let mut scene = Scene::new();
    let id = "77777777-0000-4000-8000-000000000007";
    let user = scene.entra.user("88888888-0000-4000-8000-000000000008", Some(id));
    assert!(scene.exchange(&user, &[]).is_ok(), "the user's alone: nobody knows the device");
    stdout(&scene.run(&["site", "block", id]));
    eventually("its user is refused", || {
        scene.exchange(&user, &[]).err().and_then(|e| e.code().map(str::to_owned)).as_deref()
            == Some("device.blocked")
    });
    let (mut device, theirs) = (scene.device(), scene.entra.device(id));
    assert_eq!(code(scene.register(&mut device, &theirs)), "device.blocked");
}

#[test]
fn a_block_in_the_store_ends_requests_in_flight() {
    let scene = Scene::new();
    let file = scene.nginx.content().join("large.bin");
    crate::support::write_pattern(&file, 64);
    let token = scene.gateway.token();
    let field = format!("Authorization: Bearer {token}");
    let url = scene.gateway.url("/SMS_DP_SMSPKG$/PS100001/large.bin");
    let to = scene.gateway.path("large.bin");
    let mut download = scene
        .gateway
        .curl_command(&["--limit-rate", "1M", "-H", &field, "-o", to.to_str().unwrap(), &url])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is under way", || std::fs::metadata(&to).is_ok_and(|meta| meta.len() > 0));
    stdout(&scene.run(&["site", "block", crate::support::DEVICE]));
    let mut ended = None;
    eventually("the download ends", || {
        ended = download.try_wait().unwrap();
        ended.is_some()
    });
    assert!(!ended.unwrap().success(), "and not as if it were whole");
    assert!(std::fs::metadata(&to).unwrap().len() < 64 << 20);
}

#[test]
fn a_bulk_token_for_more_than_a_week_is_refused_with_the_reason() {
    let scene = Scene::new();
    let refused = scene.run(&["token", "bulk", "--lifetime", "8d"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("between 1 and 604800 seconds"), "{told}");
    assert!(refused.stdout.is_empty());
}

#[test]
fn a_device_of_entra_registers_and_exchanges_by_its_own_token() {
    let mut scene = Scene::new();
    let id = "33333333-0000-4000-8000-000000000003";
    let theirs = scene.entra.device(id);
    assert_eq!(code(scene.exchange(&theirs, &[])), "device.unknown");
    let mut device = scene.device();
    scene.register(&mut device, &theirs).unwrap();
    let ours = scene.exchange(&theirs, &[]).unwrap();
    assert_eq!(claims(&ours)["sub"].as_str(), device.id());
    let lives = |token: &str| claims(token)["exp"].as_i64().unwrap() - now().as_second();
    assert!(lives(&ours) <= 8 * 3_600, "nobody has proved a key");
    let assertion = device.assertion(now()).unwrap();
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let proof = [("client_assertion_type", kind), ("client_assertion", assertion.as_str())];
    assert!(lives(&scene.exchange(&theirs, &proof).unwrap()) > 8 * 3_600);
    assert_eq!(scene.ask(&ours, POLICY), ok());

    // The user of that device gets a token for both, another user one for themselves.
    let user = scene.entra.user("44444444-0000-4000-8000-000000000004", Some(id));
    let both = claims(&scene.exchange(&user, &[]).unwrap());
    assert_eq!((both["Type"].as_str(), both["sub"].as_str()), (Some("UDA"), device.id()));
    let user = scene.entra.user("55555555-0000-4000-8000-000000000005", None);
    let alone = claims(&scene.exchange(&user, &[]).unwrap());
    assert_eq!((alone["Type"].as_str(), alone["sub"].as_str()), (Some("User"), None));
    assert_eq!(code(scene.exchange(&user, &[("scope", "content")])), "subject.purpose");

    // Reinstalled, with another key: its Entra token is the proof.
    let mut again = scene.device();
    scene.register(&mut again, &theirs).unwrap();
    assert_eq!(again.id(), device.id());
    assert!(scene.token(&again, &[]).is_ok());
}

#[test]
fn a_known_device_with_another_key_waits_for_approval() {
    let mut scene = Scene::new();
    let device = scene.registered();
    let id = device.id().unwrap().to_owned();
    let (mut thief, bulk) = (scene.device(), scene.bulk(&[]));
    let told = scene.register_as(&mut thief, Some(&bulk), json!({ "device_id": id })).unwrap();
    assert_eq!(told["approved"], false, "{told}");
    assert_eq!(code(scene.token(&thief, &[])), "device.not_approved");
    assert!(scene.token(&device, &[]).is_ok(), "whoever has the key works on");
    let pending = stdout(&scene.run(&["site", "devices", "--pending"]));
    assert!(pending.contains(thief.thumbprint()) && pending.contains(&id), "{pending}");

    // A proof for another key is invalid.
    let mut heir = scene.device();
    let stolen = device.proof_for(thief.thumbprint(), now()).unwrap();
    let more = json!({ "device_id": id, "device_proof": stolen });
    assert_eq!(code(scene.register_as(&mut heir, Some(&bulk), more)), "registration.proof");
    let proof = device.proof_for(heir.thumbprint(), now()).unwrap();
    let more = json!({ "device_id": id, "device_proof": proof });
    let told = scene.register_as(&mut heir, Some(&bulk), more).unwrap();
    assert_eq!((told["approved"].as_bool(), heir.id()), (Some(true), Some(id.as_str())));
    assert!(scene.token(&heir, &[]).is_ok());

    stdout(&scene.run(&["site", "approve", &id, "--keep-keys"]));
    assert!(scene.token(&thief, &[]).is_ok(), "somebody looked and approved");
    assert!(scene.token(&device, &[]).is_ok(), "and said that the former keys stay");

    // The key of one device is not valid for another.
    let other = scene.registered();
    let mut both = device;
    let more = json!({ "device_id": other.id() });
    assert_eq!(code(scene.register_as(&mut both, Some(&bulk), more)), "registration.claim");
}

#[test]
fn with_manual_approval_no_token_is_issued_before_it() {
    let mut scene = Scene::with("approval = \"manual\"", "");
    let device = scene.registered();
    assert_eq!(code(scene.token(&device, &[])), "device.not_approved");
    stdout(&scene.run(&["site", "approve", "--all-pending"]));
    assert!(scene.token(&device, &[]).is_ok());
}

/// The text output of a command, and its exit code.
fn told(output: &Output) -> (String, Option<i32>) {
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

impl Scene {
    /// Blocks a thumbprint that may begin with a hyphen.
    fn block(&self, thumbprint: &str) -> Output {
        let mut command = std::process::Command::new(crate::support::BINARY);
        command.env("SITEGATE_CONFIG", self.gateway.path("gateway.toml"));
        command.args(["site", "block", "--", thumbprint]).output().unwrap()
    }

    /// Registers a key that claims a device, with a bulk token.
    fn claims(&mut self, id: &str, bulk: &str, name: &str) -> Result<SimDevice, DeviceError> {
        let mut device = self.device();
        let more = json!({ "device_id": id, "client_name": name });
        self.register_as(&mut device, Some(bulk), more)?;
        Ok(device)
    }
}

#[test]
fn an_approval_admits_only_the_named_key() {
    let mut scene = Scene::new();
    let former = scene.registered();
    let id = former.id().unwrap().to_owned();
    let bulk = scene.bulk(&[]);
    let planted = scene.claims(&id, &bulk, "PC42\u{202e} approved").unwrap();
    let rightful = scene.claims(&id, &bulk, "PC42").unwrap();

    let (said, exit) = told(&scene.run(&["site", "approve", &id]));
    assert_eq!(exit, Some(1), "{said}");
    let (all, exit) = told(&scene.run(&["site", "approve", "--all-pending"]));
    assert_eq!(exit, Some(1), "{all}");
    assert!(said.contains("--key"), "{said}");
    for told in [said, all] {
        let shown = [&id, planted.thumbprint(), rightful.thumbprint()];
        assert!(shown.iter().all(|word| told.contains(word)), "{told}");
    }
    for device in [&planted, &rightful] {
        assert_eq!(code(scene.token(device, &[])), "device.not_approved");
    }
    assert!(scene.token(&former, &[]).is_ok(), "nothing has changed");

    let approve = scene.run(&["site", "approve", &id, "--key", rightful.thumbprint()]);
    let (said, exit) = told(&approve);
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains(&format!("key {} is retired", former.thumbprint())), "{said}");
    assert!(said.contains(&format!("still, key {} waits", planted.thumbprint())), "{said}");
    assert!(scene.token(&rightful, &[]).is_ok());
    assert_eq!(code(scene.token(&planted, &[])), "device.not_approved");
    assert_eq!(code(scene.token(&former, &[])), "assertion.signature");

    let reject = ["site", "reject", &id, "--key", planted.thumbprint()];
    assert_eq!(told(&scene.run(&reject)), ("rejected\n".into(), Some(0)));
    assert_eq!(told(&scene.run(&reject)).1, Some(1), "it waits no more");
    assert_eq!(code(scene.token(&planted, &[])), "assertion.signature");
    assert!(scene.token(&rightful, &[]).is_ok());
    let audit = stdout(&scene.run(&["site", "audit"]));
    for (action, key) in [("device.approved", &rightful), ("device.key-rejected", &planted)] {
        let line = audit.lines().find(|line| line.contains(action)).unwrap();
        assert!(line.contains(&format!("key {}", key.thumbprint())), "{line}");
    }
}

#[test]
fn a_pending_key_shows_its_origin() {
    let mut scene = Scene::new();
    let id = scene.registered().id().unwrap().to_owned();
    let bulk = scene.bulk(&[]);
    let token = claims(&bulk)["UniqueId"].as_str().unwrap().to_owned();
    let planted = scene.claims(&id, &bulk, "PC42\u{202e}\u{1b}[2J").unwrap();
    let text = stdout(&scene.run(&["site", "devices", "--pending"]));
    let line = text.lines().find(|line| line.contains(planted.thumbprint())).unwrap();
    assert!(line.contains(&format!("by bulk token {token} from 127.0.0.1")), "{line}");
    assert!(line.contains("calls itself \"PC42"), "{line}");
    assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text:?}");
    let json = stdout(&scene.run(&["site", "devices", "--pending", "--format", "json"]));
    assert!(!json.contains(['\u{202e}', '\u{1b}']), "{json:?}");
    let rows: Value = serde_json::from_str(&json).unwrap();
    let key = &rows[0]["keys"][1];
    assert_eq!((&key["thumbprint"], &key["waits"]), (&json!(planted.thumbprint()), &json!(true)));
    assert_eq!((&key["via"], &key["voucher"]), (&json!("bulk-token"), &json!(token)));
    assert_eq!(key["address"], "127.0.0.1");
    assert!(key["client_name"].as_str().unwrap().starts_with("PC42"), "{key}");
    assert!(key["added"].is_string(), "{key}");
}

#[test]
fn planted_keys_push_the_rightful_one_out_of_no_line() {
    let mut scene = Scene::with("registrations_per_minute = 1000", "");
    let id = scene.registered().id().unwrap().to_owned();
    let bulk = scene.bulk(&[]);
    let rightful = scene.claims(&id, &bulk, "PC42").unwrap();
    let mut refused = 0;
    for _ in 0..9 {
        let leaked = scene.bulk(&[]);
        for _ in 0..3 {
            if let Err(error) = scene.claims(&id, &leaked, "planted") {
                assert_eq!(error.code(), Some("registration.rivals"), "{error}");
                refused += 1;
            }
        }
    }
    // Two per token from one address, and sixteen in total except for the first of each token.
    assert_eq!(refused, 9 * 3 - 16);
    let counted = |outcome: &str| format!("sitegate_rival_claims_total{{outcome=\"{outcome}\"}}");
    assert_eq!(scene.gateway.metric(&counted("waits")), 17.0);
    assert_eq!(scene.gateway.metric(&counted("refused")), f64::from(refused));
    stdout(&scene.run(&["site", "approve", &id, "--key", rightful.thumbprint()]));
    assert!(scene.token(&rightful, &[]).is_ok());
}

#[test]
fn a_blocked_planted_key_does_not_block_the_device() {
    let mut scene = Scene::new();
    let device = scene.registered();
    let id = device.id().unwrap().to_owned();
    let token = scene.token(&device, &[]).unwrap();
    let bulk = scene.bulk(&[]);
    let mut planted = scene.claims(&id, &bulk, "PC42").unwrap();
    let (said, exit) = told(&scene.block(planted.thumbprint()));
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains(&format!("no longer waits for {id}")), "{said}");
    assert!(said.contains("no device is blocked"), "{said}");
    let more = json!({ "device_id": id });
    let again = scene.register_as(&mut planted, Some(&bulk), more);
    assert_eq!(code(again), "device.blocked", "the key cannot come again");
    assert!(scene.token(&device, &[]).is_ok());
    assert_eq!(scene.ask(&token, POLICY), ok());
    // A working key identifies the device.
    let (said, _) = told(&scene.block(device.thumbprint()));
    assert!(said.contains(&format!("device {id} is blocked")), "{said}");
    eventually("the block takes hold", || scene.ask(&token, POLICY).0 == 403);
}

#[test]
fn approve_all_skips_rival_keys_and_working_devices() {
    let mut scene = Scene::with("approval = \"manual\"", "");
    let working = scene.registered();
    let id = working.id().unwrap().to_owned();
    stdout(&scene.run(&["site", "approve", &id]));
    let leaked = scene.bulk(&[]);
    let claims = scene.claims(&id, &leaked, "PC42").unwrap();
    let (alone, rivalled) = (scene.registered(), scene.registered());
    let bulk = scene.bulk(&[]);
    let planted = scene.claims(rivalled.id().unwrap(), &bulk, "PC42").unwrap();
    let (said, exit) = told(&scene.run(&["site", "approve", "--all-pending"]));
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.contains(&format!("{} approved", alone.id().unwrap())), "{said}");
    assert!(said.contains(&format!("{} is claimed by", rivalled.id().unwrap())), "{said}");
    assert!(scene.token(&alone, &[]).is_ok());
    assert!(said.contains(&format!("{id} has a key in use, and another key claims it")), "{said}");
    assert!(scene.token(&working, &[]).is_ok());
    for device in [&rivalled, &planted, &claims] {
        assert_eq!(code(scene.token(device, &[])), "device.not_approved");
    }
}

#[test]
fn a_device_cannot_return_by_the_bulk_token_blocked_with_it() {
    let mut scene = Scene::new();
    let bulk = scene.bulk(&[]);
    let id = claims(&bulk)["UniqueId"].as_str().unwrap().to_owned();
    let (mut device, mut other) = (scene.device(), scene.device());
    scene.register(&mut device, &bulk).unwrap();
    scene.register(&mut other, &bulk).unwrap();
    let block = ["site", "block", device.id().unwrap()];
    let (said, _) = told(&scene.run(&block));
    let came = format!("by bulk token {id}, as 1 other device did");
    assert!(said.contains(&came) && said.contains("--with-bulk-token"), "{said}");
    let (said, _) = told(&scene.run(&[&block[..], &["--with-bulk-token"]].concat()));
    assert!(said.contains(&came) && said.contains("is blocked with it"), "{said}");
    let mut again = scene.device();
    assert_eq!(code(scene.register(&mut again, &bulk)), "registration.token_blocked");
    assert!(scene.token(&other, &[]).is_ok(), "whoever came by it works on");
}

#[test]
fn a_bulk_token_has_limited_uses_unless_stated_otherwise() {
    let scene = Scene::new();
    for (args, wanted) in [
        (&[][..], json!(1000)),
        (&["--uses", "7"], json!(7)),
        (&["--uses", "unlimited"], Value::Null),
    ] {
        let bulk = scene.bulk(args);
        let listed = stdout(&scene.run(&["token", "list", "--format", "json"]));
        let rows: Value = serde_json::from_str(&listed).unwrap();
        let id = &claims(&bulk)["UniqueId"];
        let row = rows.as_array().unwrap().iter().find(|row| row["id"] == *id).unwrap();
        assert_eq!(row["uses_max"], wanted, "{args:?}");
    }
    for none in ["0", "-1", "many"] {
        assert_eq!(scene.run(&["token", "bulk", "--uses", none]).status.code(), Some(2));
    }
}

#[test]
fn a_client_certificate_registers_one_device() {
    let scene = Scene::with("", CERTIFICATES);
    let machine = forge(&scene.pki);
    let register = || {
        let body = json!({ "jwks": { "keys": [scene.device().jwk()] } }).to_string();
        let post = ["-H", "Content-Type: application/json", "-d", &body];
        let (status, told) = scene.curl(Some(&machine), &format!("{PATH}/register"), &post);
        assert_eq!(status, 201, "{told}");
        (told["client_id"].as_str().unwrap().to_owned(), told["approved"] == true)
    };
    let (first, second, third) = (register(), register(), register());
    assert!(first.1 && !second.1 && !third.1);
    assert!(first.0 != second.0 && second.0 == third.0, "one record waits");
}

#[test]
fn a_blocked_device_is_denied_at_once_and_cannot_return() {
    let mut scene = Scene::new();
    let entra_id = "66666666-0000-4000-8000-000000000006";
    let theirs = scene.entra.device(entra_id);
    let mut device = scene.device();
    scene.register(&mut device, &theirs).unwrap();
    let id = device.id().unwrap().to_owned();
    let token = scene.token(&device, &[]).unwrap();
    let content = scene.exchange(&token, &[("scope", "content")]).unwrap();
    assert_eq!(scene.ask(&token, POLICY), ok());

    stdout(&scene.run(&["site", "block", &id, "--reason", "stolen"]));
    let blocked = Instant::now();
    eventually("the block takes hold", || scene.ask(&token, POLICY).0 == 403);
    let took = blocked.elapsed();
    println!("from block to denied: {took:?}");
    assert!(took < Duration::from_secs(10), "ten times the goal");
    let denied = (403, "device.blocked".to_owned());
    assert_eq!(scene.ask(&token, POLICY), denied);
    assert_eq!(scene.ask(&content, SMALL), denied);
    assert_eq!(scene.ask(&theirs, POLICY), denied, "its Entra token too");

    assert_eq!(code(scene.token(&device, &[])), "device.blocked");
    assert_eq!(code(scene.exchange(&theirs, &[])), "device.blocked");
    assert_eq!(code(scene.register(&mut device, &theirs)), "device.blocked");
    let bulk = scene.bulk(&[]);
    let again = scene.register(&mut device, &bulk);
    assert_eq!(code(again), "device.blocked", "its key is known");
    let mut other = scene.device();
    let more = json!({ "device_id": id });
    assert_eq!(code(scene.register_as(&mut other, Some(&bulk), more)), "device.blocked");

    stdout(&scene.run(&["site", "unblock", &id]));
    eventually("the block is taken back", || scene.ask(&token, POLICY).0 == 200);
    assert!(scene.token(&device, &[]).is_ok());
}

#[test]
fn tokens_are_blocked_by_id_or_by_issue_time() {
    let mut scene = Scene::new();
    let device = scene.registered();
    let (one, other) = (scene.token(&device, &[]).unwrap(), scene.token(&device, &[]).unwrap());
    let id = claims(&one)["jti"].as_str().unwrap().to_owned();
    let listed = stdout(&scene.run(&["token", "list", "--device", device.id().unwrap()]));
    assert!(listed.contains(&id), "{listed}");
    stdout(&scene.run(&["token", "block", &id]));
    let denied = (403, "token.blocked".to_owned());
    eventually("the token is blocked", || {
        scene.ask(&one, POLICY) == (401, "token.blocked".into())
            || scene.ask(&one, POLICY) == denied
    });
    assert_eq!(scene.ask(&other, POLICY), ok());
    assert_eq!(code(scene.exchange(&one, &[("scope", "content")])), "subject.blocked");

    let in_a_minute = now().as_second() + 60;
    let before = jiff::Timestamp::from_second(in_a_minute).unwrap().to_string();
    stdout(&scene.run(&["token", "block", "--issued-before", &before]));
    eventually("all are blocked", || scene.ask(&other, POLICY).0 != 200);
}

#[test]
fn a_client_gives_up_a_token_of_its_own_and_no_others() {
    let mut scene = Scene::new();
    let (device, stranger) = (scene.registered(), scene.registered());
    let token = scene.token(&device, &[]).unwrap();
    let revoke = |scene: &mut Scene, by: &SimDevice| {
        scene.runtime.block_on(by.revoke(&mut scene.client, &token, now()))
    };
    assert_eq!(code(revoke(&mut scene, &stranger)), "subject.token");
    assert_eq!(scene.ask(&token, POLICY), ok());
    revoke(&mut scene, &device).unwrap();
    eventually("the token is over", || scene.ask(&token, POLICY).0 != 200);
    revoke(&mut scene, &device).unwrap();
}

#[rstest]
#[case::wider("package:PS100001", "package:PS100002", "grant.scope")]
#[case::wider_by_one_more("package:PS100001", "package:PS100001 package:PS100002", "grant.scope")]
#[case::a_path_beside(
    "path:/sms_dp_smspkg$/ps100001",
    "path:/sms_dp_smspkg$/ps1000011",
    "grant.scope"
)]
#[case::unknown("content", "everything", "grant.scope")]
#[case::back_to_a_client("content", "client", "subject.purpose")]
fn an_exchange_never_widens(#[case] held: &str, #[case] wanted: &str, #[case] told: &str) {
    let mut scene = Scene::new();
    let device = scene.registered();
    let held = scene.token(&device, &[("scope", held)]).unwrap();
    assert_eq!(code(scene.exchange(&held, &[("scope", wanted)])), told);
}

#[test]
fn an_exchange_narrows_and_never_outlives_what_it_came_from() {
    let mut scene = Scene::new();
    let device = scene.registered();
    let all = scene.token(&device, &[("scope", "content")]).unwrap();
    let one = scene.exchange(&all, &[("scope", "package:PS100001")]).unwrap();
    let same = scene.exchange(&one, &[("scope", "content")]).unwrap();
    for token in [&one, &same] {
        assert_eq!(claims(token)["scope"], "package:ps100001");
        assert!(claims(token)["exp"].as_i64() <= claims(&all)["exp"].as_i64());
    }
    let media = scene.gateway.issue(&[
        "--kind",
        "boot-media",
        "--device",
        "GUID:99999999-0000-4000-8000-000000000009",
        "--lifetime",
        "1h",
        "--uses",
        "1",
    ]);
    let content = scene.exchange(&media, &[("scope", "content")]).unwrap();
    assert_eq!(scene.ask(&content, SMALL), ok());
    assert!(claims(&content)["exp"].as_i64() <= claims(&media)["exp"].as_i64());
    assert_eq!(code(scene.exchange(&media, &[("scope", "content")])), "subject.used_up");
}

#[test]
fn a_token_for_one_site_system_is_for_that_one() {
    let mut scene = Scene::new();
    let device = scene.registered();
    let here = format!("https://{}:{}", Gateway::HOST, scene.gateway.port);
    let token = scene.token(&device, &[("resource", &here)]).unwrap();
    assert_eq!(claims(&token)["aud"], here);
    assert_eq!(scene.ask(&token, POLICY), ok());
    let elsewhere = scene.token(&device, &[("resource", "https://dp99.contoso.com")]);
    assert_eq!(code(elsewhere), "grant.target");
    let widened = scene.exchange(&token, &[("scope", "content"), ("audience", "urn:sccm:service")]);
    assert_eq!(code(widened), "grant.target");
    assert_eq!(claims(&token)["aud"], here);
}

#[test]
fn a_device_that_was_away_for_too_long_registers_again() {
    let mut scene = Scene::with("return_grace = \"1h\"", "");
    let device = scene.registered();
    scene.token(&device, &[]).unwrap();
    assert!(scene.token(&device, &[]).is_ok(), "renewed early");
    let (id, leaked) = (device.id().unwrap().to_owned(), scene.bulk(&[]));
    let mut planted = scene.claims(&id, &leaked, "PC42").unwrap();
    // Its last token ended two days ago, according to the store.
    let store = scene.gateway.path("state/store/site.db");
    let then = now().as_second() - 2 * 86_400;
    let sql = format!("UPDATE devices SET registered = {then}, renewed = {then}");
    let sql = format!("{sql}; UPDATE tokens SET expires = {then}");
    let done = std::process::Command::new("python3")
        .args([
            "-c",
            "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2])",
        ])
        .args([store.as_os_str(), sql.as_ref()])
        .output()
        .unwrap();
    stdout(&done);
    assert_eq!(code(scene.token(&device, &[])), "device.lapsed");
    // A pending key does not bring the device back.
    let more = json!({ "device_id": id });
    scene.register_as(&mut planted, Some(&leaked), more).unwrap();
    assert_eq!(code(scene.token(&device, &[])), "device.lapsed");
    // It returns with a bulk token, which uses one use; the next try is a retry again.
    let (mut again, bulk) = (device, scene.bulk(&["--uses", "1"]));
    scene.register(&mut again, &bulk).unwrap();
    scene.register(&mut again, &bulk).unwrap();
    assert!(scene.token(&again, &[]).is_ok(), "and works on");
    let mut other = scene.device();
    assert_eq!(code(scene.register(&mut other, &bulk)), "registration.token_used_up");
}

#[test]
fn one_address_cannot_register_without_end() {
    let mut scene = Scene::with("registrations_per_minute = 3", "");
    let bulk = scene.bulk(&[]);
    let told: Vec<String> = (0..5)
        .map(|_| {
            let mut device = scene.device();
            scene.register(&mut device, &bulk).err().and_then(|e| e.code().map(str::to_owned))
        })
        .map(Option::unwrap_or_default)
        .collect();
    assert_eq!(told, ["", "", "", "request.rate", "request.rate"]);
}

#[test]
fn p256_and_rsa_keys_prove_a_client_and_weak_ones_are_refused() {
    let mut scene = Scene::new();
    for kind in [SignerKind::P256, SignerKind::Rsa2048] {
        let (mut device, bulk) =
            (SimDevice::new(kind, &issuer(&scene.gateway), PATH).unwrap(), scene.bulk(&[]));
        scene.register(&mut device, &bulk).unwrap();
        assert!(scene.token(&device, &[]).is_ok());
    }
    let bulk = scene.bulk(&[]);
    for key in [
        json!({ "kty": "RSA", "e": "AQAB", "n": "w".repeat(171) }),
        json!({ "kty": "oct", "k": "c2VjcmV0" }),
    ] {
        let mut device = scene.device();
        let more = json!({ "jwks": { "keys": [key] } });
        assert_eq!(code(scene.register_as(&mut device, Some(&bulk), more)), "registration.key");
    }
}

#[test]
fn a_foreign_oauth_library_registers_and_downloads() {
    let scene = Scene::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/authlib_client.py");
    let root = scene.gateway.path("root.pem");
    let package = scene.gateway.url(SMALL);
    let out = std::process::Command::new(crate::support::python())
        .args([script, &issuer(&scene.gateway), &scene.bulk(&[]), root.to_str().unwrap(), &package])
        // The environment's roots would take precedence over those that the script names.
        .env("REQUESTS_CA_BUNDLE", &root)
        .output()
        .unwrap();
    let told = stdout(&out);
    println!("{told}");
    assert_eq!(told.lines().count(), 4, "{told}");
    scene.nginx.assert_seen(4);
}

#[test]
fn refusals_have_the_errors_and_challenges_of_the_standards() {
    let mut scene = Scene::new();
    let device = scene.registered();
    let token = scene.token(&device, &[]).unwrap();
    let assertion = "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer\
                     &client_assertion=a.b.c&grant_type=client_credentials";
    let exchange = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&scope=content\
         &subject_token_type=urn:ietf:params:oauth:token-type:jwt&subject_token={token}"
    );
    let exchange = |more: &str| format!("{exchange}&{more}");
    let here = format!("resource=https://{}:{}", Gateway::HOST, scene.gateway.port);
    let basic = "Authorization: Basic YTpi";
    let bearer = "Authorization: Bearer a.b.c";
    let none = "X-Nothing: 1";
    // The request, its field, the error in the body, and the challenge.
    let cases = [
        ("token", assertion.to_owned(), none, 401, Some("invalid_client"), None),
        ("token", assertion.to_owned(), basic, 401, Some("invalid_client"), Some("Bearer")),
        ("revoke", assertion.to_owned(), none, 401, Some("invalid_client"), None),
        ("register", "{}".to_owned(), none, 401, None, Some("Bearer")),
        (
            "register",
            "{}".to_owned(),
            bearer,
            401,
            Some("invalid_token"),
            Some("Bearer error=\"invalid_token\""),
        ),
        ("token", exchange("actor_token=x"), none, 400, Some("invalid_request"), None),
        ("token", exchange("actor_token_type=x"), none, 400, Some("invalid_request"), None),
        ("token", exchange("requested_token_type=x"), none, 400, Some("invalid_request"), None),
        (
            "token",
            exchange("audience=https://x&audience=y"),
            none,
            400,
            Some("invalid_target"),
            None,
        ),
        (
            "token",
            exchange(&format!("{here}&audience=urn:sccm:service")),
            none,
            400,
            Some("invalid_target"),
            None,
        ),
        ("token", exchange(&format!("{here}&{here}")), none, 200, None, None),
        ("token", exchange("subject_token=x"), none, 400, Some("invalid_request"), None),
    ];
    for http in ["--http1.1", "--http2"] {
        for (endpoint, form, field, status, error, challenge) in &cases {
            let path = format!("{PATH}/{endpoint}");
            let answer = scene.gateway.curl(&path, &[http, "-H", field, "-d", form]);
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            let told = answer.head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("www-authenticate").then(|| value.trim())
            });
            let found = (answer.status, body["error"].as_str(), told);
            assert_eq!(found, (*status, *error, *challenge), "{endpoint} {form} {field}");
        }
    }
}

#[test]
fn nodes_openid_client_registers_downloads_and_revokes() {
    let scene = Scene::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/openid_client.mjs");
    let (modules, issuer, bulk) =
        (crate::support::node_modules(), issuer(&scene.gateway), scene.bulk(&[]));
    let root = scene.gateway.path("root.pem");
    let package = scene.gateway.url(SMALL);
    let out = std::process::Command::new("node")
        .args([script, &modules, &issuer, &bulk, root.to_str().unwrap(), &package])
        .output()
        .unwrap();
    let told = stdout(&out);
    println!("{told}");
    assert_eq!(told.lines().count(), 5, "{told}");
    scene.nginx.assert_seen(5);
}

/// One of fifty clients: registers, and then renews and works until it is stopped.
async fn a_life(
    mut client: SimClient,
    mut device: SimDevice,
    bulk: String,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> (SimDevice, Option<String>, u32) {
    let (mut tried, mut done, mut last) = (0, 0, None);
    while !*stop.borrow() {
        if device.id().is_none() {
            tried += 1;
            let told = device.register(&mut client, Some(&bulk), Value::Null).await;
            if let Err(error) = told {
                assert!(error.code().is_none_or(|code| code == "service.store"), "{error}");
                assert!(tried < 1_000, "never registered: {error}");
            }
        } else if let Ok(token) = device.token(&mut client, &[], now()).await {
            last = Some(token.clone());
            let request = SimRequest::get(POLICY).bearer(&token);
            if let Ok(answer) = client.fetch(&request).await {
                // An acknowledged token is valid, even if a process was killed meanwhile.
                assert!([200, 502, 503].contains(&answer.status), "{answer:?}");
                done += u32::from(answer.status == 200);
            }
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    (device, last, done)
}

#[test]
fn fifty_clients_lose_nothing_when_the_process_is_killed() {
    let mut scene =
        Scene::with("registrations_per_minute = 100000\nrequests_per_minute = 1000000", "");
    let bulk = scene.bulk(&[]);
    let (told, stop) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..50)
        .map(|_| a_life(client(&scene.gateway), scene.device(), bulk.clone(), stop.clone()))
        .collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lives: Vec<_> = clients.into_iter().map(|life| runtime.spawn(life)).collect();
    for _ in 0..5 {
        let before = scene.gateway.metric("sitegate_token_service_requests_total");
        eventually("tokens are given", || {
            scene.gateway.metric("sitegate_token_service_requests_total") > before + 60.0
        });
        scene.gateway.kill();
        scene.gateway.launch();
        scene.gateway.wait_until_ready();
    }
    eventually("all work", || {
        scene.gateway.metric("sitegate_token_service_requests_total{endpoint=\"token\"") > 200.0
    });
    told.send(true).unwrap();
    let lives: Vec<_> = lives.into_iter().map(|life| runtime.block_on(life).unwrap()).collect();
    let tokens: u32 = lives.iter().map(|(_, _, done)| done).sum();
    println!("50 clients, 5 kills: {tokens} requests went through");
    let ids: std::collections::BTreeSet<_> = lives.iter().map(|(d, _, _)| d.id()).collect();
    assert_eq!(ids.len(), 50, "each has one id, and nobody another's");
    // Acknowledged clients are known, and one of them can be blocked with all its tokens.
    let (blocked, token, _) = &lives[7];
    let id = blocked.id().unwrap();
    let listed = stdout(&scene.run(&["token", "list", "--device", id, "--format", "json"]));
    let token = token.as_deref().unwrap();
    assert!(listed.contains(claims(token)["jti"].as_str().unwrap()), "{id}: {listed}");
    stdout(&scene.run(&["site", "block", id]));
    scene.gateway.kill();
    scene.gateway.launch();
    scene.gateway.wait_until_ready();
    scene.client.close();
    assert_eq!(scene.ask(token, POLICY), (403, "device.blocked".to_owned()));
    for (device, token, _) in lives.iter().filter(|(d, _, _)| d.id() != Some(id)) {
        let token = token.as_deref().unwrap();
        assert_eq!(scene.ask(token, POLICY), ok(), "{device:?}");
    }
}

/// With client certificates of the scene's authority.
const CERTIFICATES: &str = "client_certificate = \"request\"\nclient_ca = \"clients.pem\"";

fn forge(pki: &Pki) -> Forged {
    let mut order = Order::fit(&["client01.contoso.com"], now());
    order.usage = Usage::Client;
    pki.issue(&order).unwrap()
}

fn sha256(forged: &Forged) -> String {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let der = CertificateDer::from_pem_slice(forged.leaf.as_bytes()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn only_a_good_client_certificate_registers() {
    let scene = Scene::with("", CERTIFICATES);
    let (good, foreign) = (forge(&scene.pki), forge(&Pki::new("Others", now()).unwrap()));
    let device = scene.device();
    let body = json!({ "jwks": { "keys": [device.jwk()] } }).to_string();
    let path = format!("{PATH}/register");
    let post = ["-H", "Content-Type: application/json", "-d", &body];
    for http in ["--http1.1", "--http2"] {
        let ask = |certificate: Option<&Forged>, more: &[&str]| {
            let (status, told) =
                scene.curl(certificate, &path, &[&post[..], &[http], more].concat());
            (status, told["code"].as_str().unwrap_or_default().to_owned())
        };
        let unproven = (401, "registration.unproven".to_owned());
        assert_eq!(ask(None, &[]), unproven);
        assert_eq!(ask(Some(&foreign), &[]), unproven);
        for name in [
            "Sitegate-Client-Cert-Sha256",
            "sitegate_client_cert_sha256",
            "Sitegate-Client-Cert-Proven",
            "SITEGATE_CLIENT-CERT_PROVEN",
        ] {
            let field = format!("{name}: {}", sha256(&good));
            assert_eq!(ask(None, &["-H", &field]), unproven, "{field}");
            assert_eq!(ask(Some(&foreign), &["-H", &field]), unproven, "{field}");
        }
        assert_eq!(ask(Some(&good), &[]), (201, String::new()));
    }
}

#[test]
fn a_token_that_is_bound_to_a_certificate_is_nothing_without_it() {
    let mut scene = Scene::with("", CERTIFICATES);
    // The binding is to the proven key, under any issuer.
    let (own, other) = (forge(&Pki::new("Own", now()).unwrap()), forge(&scene.pki));
    let device = scene.registered();
    let path = format!("{PATH}/token");
    let assertion = device.assertion(now()).unwrap();
    let form = format!(
        "grant_type=client_credentials&client_assertion={assertion}&client_assertion_type=\
         urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    let (status, told) = scene.curl(Some(&own), &path, &["-d", &form]);
    assert_eq!((status, told["expires_in"].as_i64()), (200, Some(90 * 86_400)), "{told}");
    let token = told["access_token"].as_str().unwrap();
    assert_eq!(scene.ask(token, POLICY), (401, "token.binding".into()));
    let field = format!("Authorization: Bearer {token}");
    assert_eq!(scene.curl(Some(&own), POLICY, &["-H", &field]).0, 200);

    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&scope=content\
         &subject_token={token}&subject_token_type=urn:ietf:params:oauth:token-type:jwt"
    );
    let spoof = format!("Sitegate-Client-Cert-Proven: {}", sha256(&own));
    for (certificate, more) in [(None, vec![]), (Some(&other), vec![]), (None, vec!["-H", &spoof])]
    {
        let (status, told) = scene.curl(certificate, &path, &[&["-d", &form][..], &more].concat());
        assert_eq!((status, told["code"].as_str()), (400, Some("subject.binding")), "{told}");
    }
    let (status, told) = scene.curl(Some(&own), &path, &["-d", &form]);
    assert_eq!(status, 200, "{told}");
    let content = told["access_token"].as_str().unwrap();
    assert_eq!(scene.ask(content, SMALL), ok(), "content needs no certificate");
}

#[test]
fn the_token_service_namespace_never_reaches_the_backend() {
    let until = jiff::Timestamp::from_second(now().as_second() + 86_400).unwrap();
    let observing = format!("mode = \"observe\"\nobserve_until = {until}");
    for (mode, below) in [("", "route.unknown"), (observing.as_str(), "route.unknown")] {
        let scene = Scene::with("", mode);
        let cases: &[(&str, &str, u16, &str)] = &[
            ("GET", "/sitegate/oauth2", 403, "route.denied"),
            ("GET", "/sitegate/oauth2/nothing", 403, "route.denied"),
            ("GET", "/SiteGate/OAuth2/nothing", 403, "route.denied"),
            ("GET", "/sitegate/oauth2/register/abc", 403, below),
            ("POST", "/sitegate/oauth2/token/x", 403, below),
            ("GET", "/.well-known/oauth-authorization-server/sitegate/oauth2/x", 403, below),
            ("PUT", "/sitegate/oauth2/token", 405, "route.method"),
            ("GET", "/sitegate/oauth2/token", 405, "route.method"),
            ("GET", "/sitegate/oauth2/%74oken", 405, "route.method"),
            ("GET", "/sitegate/../sitegate/oauth2/jwks", 400, "path.ambiguous"),
            ("GET", "/sitegate/oauth2/jwks/.", 400, "path.ambiguous"),
        ];
        for http in ["--http1.1", "--http2"] {
            for (method, path, status, code) in cases {
                let answer = scene
                    .gateway
                    .curl(path, &[http, "-X", method, "-H", "Authorization: Bearer a.b.c"]);
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (*status, *code),
                    "{mode} {method} {path}"
                );
            }
            let large = format!("a={}", "x".repeat(70_000));
            let path = format!("{PATH}/token");
            let answer = scene.gateway.curl(&path, &[http, "-d", &large]);
            assert_eq!(answer.code(), "limit.body", "{answer:?}");
            assert_eq!(scene.gateway.curl(&format!("{PATH}/jwks"), &[http]).status, 200);
        }
        scene.nginx.assert_seen(0);
    }
    // Without the token service, the path does not exist.
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let answer = gateway.curl(&format!("{PATH}/jwks"), &[]);
    assert_eq!(answer.code(), "route.unknown");
    nginx.assert_seen(0);
}

#[test]
fn two_site_servers_on_one_postgresql_are_one_site() {
    let mut postgres = Postgres::start();
    let url = postgres.url();
    let put = |gateway: &Gateway| {
        sitegate::secret::write_private(&gateway.path("store"), url.as_bytes()).unwrap();
    };
    let at_postgres = "store = \"file:store\"";
    let (mut one, mut two) =
        (Scene::prepared(at_postgres, "", put), Scene::prepared(at_postgres, "", put));
    let bulk = one.bulk(&["--uses", "1"]);
    let mut device = one.device();
    one.register(&mut device, &bulk).unwrap();
    let token = one.token(&device, &[]).unwrap();
    assert_eq!(one.ask(&token, POLICY), ok());

    // The other server knows the device, and would know a used proof. Its own clients know it by
    // another name, so the device uses that.
    let id = device.id().unwrap().to_owned();
    assert!(stdout(&two.run(&["site", "devices"])).contains(&id));
    assert!(stdout(&two.run(&["token", "list"])).contains(claims(&token)["jti"].as_str().unwrap()));
    let mut theirs = two.registered();
    assert!(stdout(&one.run(&["site", "devices"])).contains(theirs.id().unwrap()));

    // Blocked at one, denied at both.
    let their_token = two.token(&theirs, &[]).unwrap();
    assert_eq!(two.ask(&their_token, POLICY), ok());
    stdout(&one.run(&["site", "block", theirs.id().unwrap()]));
    let blocked = Instant::now();
    eventually("the other one denies", || two.ask(&their_token, POLICY).0 == 403);
    println!("from block to denied at the other: {:?}", blocked.elapsed());
    assert!(blocked.elapsed() < Duration::from_secs(10), "ten times the goal");
    assert_eq!(code(two.token(&theirs, &[])), "device.blocked");

    // Without the database existing tokens work, blocked clients stay blocked, and no new token is
    // issued.
    postgres.stop();
    assert_eq!(one.ask(&token, POLICY), ok());
    assert_eq!(two.ask(&their_token, POLICY), (403, "device.blocked".to_owned()));
    assert_eq!(code(one.token(&device, &[])), "service.store");
    postgres.resume();
    eventually("tokens are given again", || one.token(&device, &[]).is_ok());
    stdout(&two.run(&["site", "unblock", theirs.id().unwrap()]));
    eventually("the block is taken back", || two.ask(&their_token, POLICY).0 == 200);
    let bulk = two.bulk(&[]);
    two.register(&mut theirs, &bulk).unwrap();
    assert!(!one.gateway.log().contains("postgres://"), "the URL is a secret");
}

#[test]
fn a_read_only_command_creates_nothing() {
    let nginx = Nginx::start();
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()));
    for command in [&["token", "list"][..], &["site", "devices"], &["site", "audit"]] {
        let refused = gateway.command(command).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("there is no store at"), "{told}");
    }
    assert!(!gateway.path("state").exists(), "nothing was made");
    gateway.launch();
    gateway.wait_until_ready();
    let audit = || stdout(&gateway.command(&["site", "audit"]).output().unwrap());
    let before = audit();
    assert_eq!(audit(), before, "looking leaves no line");
    let block = ["site", "block", "--user", "mallory", "--reason", "left"];
    stdout(&gateway.command(&block).output().unwrap());
    let told = audit();
    assert!(told.contains("block.added") && told.contains("mallory"), "{told}");
}
