//! The issuers that the token service accepts (those of the site system that a request came
//! through), and the reach of a block on tokens that were exchanged for theirs.

use rstest::rstest;
use serde_json::{Value, json};
use sitegate::purpose::Purpose;
use sitegate::token::{MintRequest, SignerKind, TokenSigner, jwks};
use sitegate_lab::{DeviceError, SimClient, SimDevice, SimRequest, exchange};
use tokio::runtime::Runtime;

use crate::site_server::{self, Server, client, now};
use crate::support::{Entra, Gateway, Nginx, Plan, Scribe, eventually};

const PATH: &str = "/sitegate/oauth2";
const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";
const SMALL: &str = "/SMS_DP_SMSPKG$/PS100001/small.txt";
const CONTRACTORS: &str = "https://id.contractors.example";
const FOREIGN_SITE: &str = "https://cm.example/sts";
const USER: &str = "44444444-0000-4000-8000-000000000004";
const EVERY_ISSUER: &str = r#"["site", "entra", "contractors", "cm"]"#;

/// Issuers beside the site's own: Entra, a third-party provider, another site.
struct Issuers {
    entra: Entra,
    contractors: (TokenSigner, Vec<u8>),
    foreign_site: TokenSigner,
}

impl Issuers {
    fn new() -> Issuers {
        let key = TokenSigner::generate(SignerKind::P256).unwrap();
        let signer = TokenSigner::from_pkcs8(&key, None).unwrap();
        let foreign = TokenSigner::generate(SignerKind::P256).unwrap();
        Issuers {
            entra: Entra::new(),
            contractors: (signer, key.to_vec()),
            foreign_site: TokenSigner::from_pkcs8(&foreign, None).unwrap(),
        }
    }

    fn sections(exchange: bool) -> String {
        format!(
            "{}[[token_issuer]]\nname = \"contractors\"\nkind = \"oidc\"\nissuer = \"{CONTRACTORS}\"\n\
             audiences = [\"site\"]\nuser_claim = \"sub\"\nkeys = \"contractors.json\"\n\
             exchange = {exchange}\n\
             [[token_issuer]]\nname = \"cm\"\nkind = \"site\"\nissuer = \"{FOREIGN_SITE}\"\n\
             keys = \"cm.json\"\n",
            Entra::section()
        )
    }

    /// Writes their keys to the files that the sections name.
    fn put(&self, gateway: &Gateway) {
        std::fs::write(gateway.path("entra.json"), self.entra.keys()).unwrap();
        let contractors = jwks([&self.contractors.0]).to_string();
        std::fs::write(gateway.path("contractors.json"), contractors).unwrap();
        let foreign = jwks([&self.foreign_site]).to_string();
        std::fs::write(gateway.path("cm.json"), foreign).unwrap();
    }

    fn contractor(&self, user: &str, lives_s: i64) -> String {
        let now = now().as_second();
        let claims = json!({
            "iss": CONTRACTORS, "sub": user, "aud": "site", "iat": now, "exp": now + lives_s,
            "jti": uuid::Uuid::new_v4(),
        });
        let kid = Some(self.contractors.0.kid().to_owned());
        let header = jsonwebtoken::Header {
            kid,
            ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256)
        };
        let key = jsonwebtoken::EncodingKey::from_ec_der(&self.contractors.1);
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }

    /// A token of the other site, as its own token service issues them.
    fn foreign(&self, purpose: Purpose, user: Option<&str>) -> String {
        let device =
            (purpose != Purpose::Registration && user.is_none()).then_some(crate::support::DEVICE);
        let request = MintRequest {
            purpose,
            device,
            user,
            audience: "urn:sccm:service",
            issuer: FOREIGN_SITE,
            hierarchy: "cdcc5e91-0000-4000-8000-000000000000".parse().unwrap(),
            lifetime_s: None,
            bound_to: None,
            scope: None,
            origins: &[],
            id: uuid::Uuid::new_v4(),
        };
        self.foreign_site.mint(&request, now()).unwrap()
    }
}

/// A site system that offers the token service, and the place of the site's records.
struct Scene {
    issuers: Issuers,
    gateway: Gateway,
    server: Option<Server>,
    issuer: String,
    runtime: Runtime,
    client: SimClient,
}

/// The place of the site system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// With the store.
    Own,
    /// On another host, which forwards the clients' requests.
    Elsewhere,
}

impl Scene {
    fn new(place: Place, backend: &str, accepted: &str, exchange: bool) -> Scene {
        let issuers = Issuers::new();
        let sections = Issuers::sections(exchange);
        let accepts = format!("issuers = {accepted}");
        let (mut gateway, server) = match place {
            Place::Own => {
                let plan = Plan::to(backend).sections(&sections);
                let plan = plan.site("blocklist = \"blocked.toml\"");
                (
                    Gateway::prepare(
                        plan.site_system("token_service = true").site_system(&accepts),
                    ),
                    None,
                )
            }
            Place::Elsewhere => {
                let server = Server::prepared(backend, "", &sections, |at| issuers.put(at));
                let token = server.join_token("gw1");
                let keys = format!("{sections}\n");
                let gateway = site_server::elsewhere_with(backend, "gw1", &token, &keys, &accepts);
                (gateway, Some(server))
            }
        };
        issuers.put(&gateway);
        std::fs::write(gateway.path("blocked.toml"), "").unwrap();
        gateway.launch();
        gateway.wait_until_ready();
        let own = format!("https://{}:{}{PATH}", Gateway::HOST, gateway.port);
        let issuer = server.as_ref().map_or(own, |_| site_server::ISSUER.to_owned());
        let client = client(&gateway);
        Scene { issuers, gateway, server, issuer, runtime: site_server::runtime(), client }
    }

    /// Runs a command at the site server. Returns its output.
    fn said(&self, args: &[&str]) -> String {
        let gateway = self.server.as_ref().map_or(&self.gateway, |server| &server.gateway);
        let out = gateway.command(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    fn device(&self) -> SimDevice {
        SimDevice::new(SignerKind::P256, &self.issuer, PATH).unwrap()
    }

    fn exchange(&mut self, subject: &str, more: &[(&str, &str)]) -> Result<String, DeviceError> {
        self.runtime.block_on(exchange(&mut self.client, PATH, subject, more))
    }

    fn register(&mut self, token: &str) -> Result<SimDevice, DeviceError> {
        let mut device = self.device();
        self.runtime.block_on(device.register(&mut self.client, Some(token), json!({})))?;
        Ok(device)
    }

    fn ask(&mut self, token: &str, path: &str) -> (u16, String) {
        site_server::ask(&self.runtime, &mut self.client, token, path)
    }
}

fn told<T: std::fmt::Debug>(outcome: Result<T, DeviceError>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.code().unwrap_or_else(|| panic!("{error}")).to_owned(),
    }
}

fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[rstest]
fn the_token_service_believes_whom_the_site_system_accepts(
    #[values(Place::Own, Place::Elsewhere)] place: Place,
    #[values(false, true)] accepted: bool,
) {
    let nginx = Nginx::start();
    let names = if accepted { EVERY_ISSUER } else { r#"["site"]"# };
    let mut scene = Scene::new(place, &nginx.url(), names, true);
    let expected = |refused: &str| if accepted { "ok".to_owned() } else { refused.to_owned() };

    let user = scene.issuers.entra.user(USER, None);
    assert_eq!(told(scene.exchange(&user, &[])), expected("subject.token"), "Entra's user");
    let contractor = scene.issuers.contractor("alice", 3600);
    let exchanged = scene.exchange(&contractor, &[]);
    assert_eq!(told(exchanged), expected("subject.token"), "somebody else's user");
    let theirs = scene.issuers.foreign(Purpose::Client, Some("bob"));
    let exchanged = scene.exchange(&theirs, &[("scope", "content")]);
    let refused = if accepted { "subject.purpose" } else { "subject.token" };
    assert_eq!(told(exchanged), refused, "content is a device's");

    let device = scene.issuers.entra.device("33333333-0000-4000-8000-000000000003");
    assert_eq!(told(scene.register(&device)), expected("registration.token"), "Entra's device");
    let bulk = scene.issuers.foreign(Purpose::Registration, None);
    assert_eq!(told(scene.register(&bulk)), expected("registration.token"), "another site's bulk");
    let own = scene.said(&["token", "bulk"]);
    assert_eq!(told(scene.register(&own)), "ok", "the site's own");
}

#[test]
fn what_a_client_says_of_accepted_issuers_is_not_believed() {
    let nginx = Nginx::start();
    let scene = Scene::new(Place::Own, &nginx.url(), r#"["site"]"#, true);
    let subject = scene.issuers.contractor("alice", 3600);
    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={subject}\
         &subject_token_type=urn:ietf:params:oauth:token-type:jwt"
    );
    for http in ["--http1.1", "--http2"] {
        for name in
            ["Sitegate-Accepted-Issuers", "sitegate_accepted_issuers", "Gateway-Client-Issuers"]
        {
            let field = format!("{name}: {CONTRACTORS}");
            let answer =
                scene.gateway.curl(&format!("{PATH}/token"), &[http, "-H", &field, "-d", &form]);
            assert_eq!(
                (answer.status, answer.code()),
                (400, "subject.token".into()),
                "{http} {name}"
            );
        }
    }
}

#[rstest]
fn a_token_is_revoked_only_where_its_issuer_is_accepted(
    #[values(Place::Own, Place::Elsewhere)] place: Place,
) {
    let nginx = Nginx::start();
    // The device registers with its Entra token; its own tokens are not accepted here.
    let mut scene = Scene::new(place, &nginx.url(), r#"["entra"]"#, false);
    let entra = scene.issuers.entra.device("33333333-0000-4000-8000-000000000003");
    let device = scene.register(&entra).unwrap();
    let token = scene.runtime.block_on(device.token(&mut scene.client, &[], now())).unwrap();
    let revoked = scene.runtime.block_on(device.revoke(&mut scene.client, &token, now()));
    assert_eq!(told(revoked), "subject.token");
    let audit = scene.said(&["site", "audit"]);
    assert!(!audit.contains("block.added"), "nothing was blocked: {audit}");
}

#[test]
fn another_provider_is_exchanged_only_where_its_table_says_so() {
    let nginx = Nginx::start();
    let mut scene = Scene::new(Place::Own, &nginx.url(), EVERY_ISSUER, false);
    let contractor = scene.issuers.contractor("alice", 3600);
    assert_eq!(told(scene.exchange(&contractor, &[])), "subject.issuer");
    let user = scene.issuers.entra.user(USER, None);
    assert_eq!(told(scene.exchange(&user, &[])), "ok", "Entra is by default");
}

#[test]
fn users_of_different_issuers_never_share_a_name() {
    let nginx = Nginx::start();
    let mut scene = Scene::new(Place::Own, &nginx.url(), EVERY_ISSUER, true);
    let entra = scene.issuers.entra.user(USER, None);
    let impostor = scene.issuers.contractor(USER, 3600);
    let foreign = scene.issuers.foreign(Purpose::Client, Some(USER));
    let user = |token: &str| claims(token)["UserId"].as_str().unwrap().to_owned();
    assert_eq!(user(&scene.exchange(&entra, &[]).unwrap()), USER);
    assert_eq!(user(&scene.exchange(&impostor, &[]).unwrap()), format!("{CONTRACTORS}#{USER}"));
    assert_eq!(told(scene.exchange(&foreign, &[])), "subject.purpose", "a site's is no client's");
    let long = scene.issuers.contractor(&"x".repeat(250), 3600);
    assert_eq!(told(scene.exchange(&long, &[])), "subject.token");
}

#[test]
fn an_exchanged_token_never_outlives_the_subject_token() {
    let nginx = Nginx::start();
    let mut scene = Scene::new(Place::Own, &nginx.url(), EVERY_ISSUER, true);
    let short = scene.issuers.contractor("alice", 600);
    let made = scene.exchange(&short, &[]).unwrap();
    assert!(claims(&made)["exp"].as_i64() <= claims(&short)["exp"].as_i64());
}

#[test]
fn an_exchanged_token_names_its_origin() {
    let scribe = Scribe::start();
    let mut scene = Scene::new(Place::Own, &scribe.url(), EVERY_ISSUER, true);
    let subject = scene.issuers.contractor("alice", 3600);
    let made = scene.exchange(&subject, &[]).unwrap();
    let origin = &claims(&made)["origin"][0];
    assert_eq!(
        (origin["iss"].as_str(), origin["user"].as_str()),
        (Some(CONTRACTORS), Some("alice"))
    );
    assert_eq!(origin["jti"], claims(&subject)["jti"]);
    assert_eq!(scene.ask(&made, "/CMUserService/x").0, 200);
    let seen = scribe.last();
    assert_eq!(seen.fields("Sitegate-Origin-Issuer"), [CONTRACTORS]);
    assert_eq!(seen.fields("Sitegate-Origin-Subject"), ["alice"]);
    assert_eq!(seen.fields("Sitegate-Issuer"), ["site"]);
    eventually("the line is written", || {
        let line =
            scene.gateway.access().into_iter().rfind(|line| line["path"] == "/CMUserService/x");
        line.is_some_and(|line| {
            line["origin_issuer"] == CONTRACTORS && line["origin_subject"] == "alice"
        })
    });
}

#[rstest]
#[case::the_user_of_the_issuer("issuer = 'contractors'\nuser = 'alice'", "user.blocked")]
#[case::the_user_of_anyone("user = 'alice'", "user.blocked")]
#[case::the_token("issuer = 'contractors'\ntoken = '{jti}'", "token.blocked")]
#[case::all_before_a_moment("issuer = 'contractors'\nissued_before = {later}", "token.blocked")]
fn a_block_in_the_file_reaches_what_was_exchanged(#[case] entry: &str, #[case] code: &str) {
    let nginx = Nginx::start();
    let mut scene = Scene::new(Place::Own, &nginx.url(), EVERY_ISSUER, true);
    let subject = scene.issuers.contractor("alice", 3600);
    let made = scene.exchange(&subject, &[]).unwrap();
    let other = scene.issuers.contractor("anna", 3600);
    let untouched = scene.exchange(&other, &[]).unwrap();
    assert_eq!(scene.ask(&made, "/CMUserService/x").0, 200);
    let later = jiff::Timestamp::from_second(now().as_second() + 60).unwrap().to_string();
    let entry = entry.replace("{jti}", claims(&subject)["jti"].as_str().unwrap());
    let entry = entry.replace("{later}", &later);
    std::fs::write(scene.gateway.path("new"), format!("[[block]]\n{entry}\n")).unwrap();
    std::fs::rename(scene.gateway.path("new"), scene.gateway.path("blocked.toml")).unwrap();
    eventually("it is blocked", || scene.ask(&made, "/CMUserService/x").0 != 200);
    assert_eq!(scene.ask(&made, "/CMUserService/x").1, code);
    let all = entry.contains("issued_before");
    assert_eq!(scene.ask(&untouched, "/CMUserService/x").0 == 200, !all);
}

#[rstest]
fn a_block_in_the_store_reaches_what_was_exchanged(
    #[values(Place::Own, Place::Elsewhere)] place: Place,
    #[values("token", "issued-before", "user")] what: &str,
) {
    let nginx = Nginx::start();
    let mut scene = Scene::new(place, &nginx.url(), EVERY_ISSUER, true);
    let subject = scene.issuers.contractor("alice", 3600);
    let made = scene.exchange(&subject, &[]).unwrap();
    assert_eq!(scene.ask(&made, "/CMUserService/x").0, 200);
    let later = jiff::Timestamp::from_second(now().as_second() + 60).unwrap().to_string();
    let id = claims(&subject)["jti"].as_str().unwrap().to_owned();
    let args: &[&str] = match what {
        "token" => &["token", "block", &id, "--issuer", CONTRACTORS],
        "issued-before" => &["token", "block", "--issued-before", &later, "--issuer", CONTRACTORS],
        _ => &["site", "block", "--user", "alice"],
    };
    scene.said(args);
    eventually("it is blocked", || scene.ask(&made, "/CMUserService/x").0 != 200);
}

#[rstest]
fn a_block_outlasts_another_name_of_the_issuer(
    #[values(Place::Own, Place::Elsewhere)] place: Place,
    #[values("token", "issued-before")] what: &str,
) {
    let nginx = Nginx::start();
    let mut scene = Scene::new(place, &nginx.url(), EVERY_ISSUER, true);
    let subject = scene.issuers.contractor("alice", 3600);
    let made = scene.exchange(&subject, &[]).unwrap();
    let later = jiff::Timestamp::from_second(now().as_second() + 60).unwrap().to_string();
    let id = claims(&subject)["jti"].as_str().unwrap().to_owned();
    let args: &[&str] = match what {
        "token" => &["token", "block", &id, "--issuer", CONTRACTORS],
        _ => &["token", "block", "--issued-before", &later, "--issuer", CONTRACTORS],
    };
    scene.said(args);
    eventually("it is blocked", || scene.ask(&made, "/CMUserService/x").0 != 200);
    let renamed = scene.gateway.config_text().replace("\"contractors\"", "\"suppliers\"");
    scene.gateway.write_config(&renamed);
    let mut asked = 0;
    while !scene.gateway.log().contains("was reloaded") || asked < 20 {
        assert_ne!(scene.ask(&made, "/CMUserService/x").0, 200, "request {asked}");
        asked += 1;
    }
    let other = scene.issuers.contractor("anna", 3600);
    assert_eq!(told(scene.exchange(&other, &[])) == "ok", what == "token", "of another user");
}

#[test]
fn a_block_of_a_client_token_reaches_its_content_token() {
    let nginx = Nginx::start();
    let mut scene = Scene::new(Place::Own, &nginx.url(), r#"["site"]"#, false);
    let bulk = scene.said(&["token", "bulk"]);
    let device = scene.register(&bulk).unwrap();
    let token = scene.runtime.block_on(device.token(&mut scene.client, &[], now())).unwrap();
    let content = scene.exchange(&token, &[("scope", "content")]).unwrap();
    assert_eq!(scene.ask(&content, SMALL).0, 200);
    scene.said(&["token", "block", claims(&token)["jti"].as_str().unwrap()]);
    eventually("content is blocked too", || scene.ask(&content, SMALL).0 != 200);
    let again = scene.runtime.block_on(device.token(&mut scene.client, &[], now())).unwrap();
    assert_eq!(scene.ask(&again, POLICY).0, 200, "the device is not");
}

#[test]
fn a_chain_of_exchanges_ends() {
    let nginx = Nginx::start();
    let mut scene = Scene::new(Place::Own, &nginx.url(), r#"["site"]"#, false);
    let bulk = scene.said(&["token", "bulk"]);
    let device = scene.register(&bulk).unwrap();
    let mut token = scene.runtime.block_on(device.token(&mut scene.client, &[], now())).unwrap();
    for depth in 1..=sitegate::token::ORIGINS_MAX {
        token = scene.exchange(&token, &[("scope", "content")]).unwrap();
        assert_eq!(claims(&token)["origin"].as_array().unwrap().len(), depth);
    }
    assert_eq!(told(scene.exchange(&token, &[("scope", "content")])), "subject.purpose");
}

#[test]
fn strangers_do_not_use_up_the_rate_limit_of_a_client() {
    let nginx = Nginx::start();
    let plan = Plan::to(&nginx.url())
        .sections("[token_service]\nrequests_per_minute = 3\nregistrations_per_minute = 2")
        .site_system("token_service = true");
    let gateway = plan.start();
    let mut client = client(&gateway);
    let runtime = site_server::runtime();
    let issuer = format!("https://{}:{}{PATH}", Gateway::HOST, gateway.port);
    let out = gateway.command(&["token", "bulk"]).output().unwrap();
    let bulk = String::from_utf8(out.stdout).unwrap();
    let mut device = SimDevice::new(SignerKind::P256, &issuer, PATH).unwrap();
    // More failures than the rate limit allows, at every endpoint.
    for _ in 0..6 {
        let mut stranger = SimDevice::new(SignerKind::P256, &issuer, PATH).unwrap();
        assert!(
            runtime.block_on(stranger.register(&mut client, Some("x.y.z"), json!({}))).is_err()
        );
        let request = SimRequest::new("POST", &format!("{PATH}/token")).body("text/plain", "");
        assert_ne!(runtime.block_on(client.fetch(&request)).unwrap().status, 200);
    }
    runtime.block_on(device.register(&mut client, Some(bulk.trim()), json!({}))).unwrap();
    assert!(runtime.block_on(device.token(&mut client, &[], now())).is_ok());
}
