//! Client certificates: a request with a bad one gets a response with a code, never an alert.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sitegate_forge::{Forged, Order, Pki, Usage, crowd};
use sitegate::clock::{Clock, second};

use crate::support::{Answer, Gateway, Nginx, Plan, Wire, client_config, eventually};

const REPORTS: &str = "/reports/x";
const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";
const OPEN: &str = "/CCM_Client/echo";

/// A gateway that requests client certificates, and the authority that issues them.
struct Scene {
    nginx: Nginx,
    pki: Pki,
    gateway: Gateway,
}

impl Scene {
    fn new(keys: &str) -> Scene {
        let echo = r#"location ~* ^/(reports/|CCM_Client/echo) { return 200 "cert=$http_sitegate_client_cert_sha256\n"; }"#;
        let nginx = Nginx::with("", echo);
        let pki = Pki::new("Clients", now()).unwrap();
        let plan = Plan::to(&nginx.url())
            .site_system("client_certificate = \"request\"\nclient_ca = \"clients.pem\"")
            .site_system(keys)
            .after("[[site_system.route]]\npath = \"/reports/\"\nrequire = \"certificate\"");
        let mut gateway = Gateway::prepare(plan);
        std::fs::write(gateway.path("clients.pem"), pki.root()).unwrap();
        std::fs::write(gateway.path("clients.crl"), crl(&pki, &[])).unwrap();
        gateway.launch();
        gateway.wait_until_ready();
        Scene { nginx, pki, gateway }
    }

    fn forge(&self, spoil: impl FnOnce(&mut Order)) -> Forged {
        forge(&self.pki, spoil)
    }

    /// Sends a request with or without a certificate.
    fn ask(&self, forged: Option<&Forged>, path: &str, args: &[&str]) -> Answer {
        let (chain, key) = (self.gateway.path("client.pem"), self.gateway.path("client.key"));
        let mut all: Vec<&str> = args.to_vec();
        if let Some(forged) = forged {
            std::fs::write(&chain, &forged.chain).unwrap();
            std::fs::write(&key, forged.key.as_bytes()).unwrap();
            all.extend(["--cert", chain.to_str().unwrap(), "--key", key.to_str().unwrap()]);
        }
        self.gateway.curl(path, &all)
    }

    fn revoke(&self, revoked: &[&Forged]) {
        let new = self.gateway.path("clients.crl.new");
        std::fs::write(&new, crl(&self.pki, revoked)).unwrap();
        std::fs::rename(new, self.gateway.path("clients.crl")).unwrap();
    }

    fn client(&self, forged: &Forged) -> ClientConfig {
        presenting(client_config(&self.gateway), forged)
    }
}

fn now() -> jiff::Timestamp {
    Clock::system().now()
}

fn forge(pki: &Pki, spoil: impl FnOnce(&mut Order)) -> Forged {
    let mut order = Order::fit(&["client01.contoso.com"], now());
    order.usage = Usage::Client;
    spoil(&mut order);
    pki.issue(&order).unwrap()
}

fn crl(pki: &Pki, revoked: &[&Forged]) -> String {
    let at = |seconds| second(now().as_second() + seconds);
    pki.crl(revoked, at(-60), at(3600)).unwrap()
}

fn ders(forged: &Forged) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(forged.chain.as_bytes()).map(Result::unwrap).collect()
}

fn sha256(forged: &Forged) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &ders(forged)[0]).as_ref().to_vec()
}

fn presenting(config: ClientConfig, forged: &Forged) -> ClientConfig {
    let key = PrivateKeyDer::from_pem_slice(forged.key.as_bytes()).unwrap();
    let provider = config.crypto_provider().clone();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let mut config = config;
    let certified = rustls::sign::CertifiedKey::new(ders(forged), key);
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    config
}

fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: mp01.contoso.com\r\n{fields}\r\n")
}

fn code(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_certificate_route_admits_only_good_client_certificates() {
    let scene = Scene::new("client_crl = \"clients.crl\"");
    let good = scene.forge(|_| ());
    let revoked = scene.forge(|_| ());
    scene.revoke(&[&revoked]);
    eventually("the list is in force", || {
        scene.ask(Some(&revoked), REPORTS, &[]).code() == "certificate.revoked"
    });
    let hour = |n: i64| second(now().as_second() + n * 3600);
    let stranger = forge(&Pki::new("Strangers", now()).unwrap(), |_| ());
    let nul = scene.forge(|o| o.hosts = vec!["client01.contoso.com\0.evil.com".to_owned()]);
    let expired = scene.forge(|o| (o.from, o.until) = (hour(-48), hour(-24)));
    let early = scene.forge(|o| o.from = hour(24));
    let servers = scene.forge(|o| o.usage = Usage::Server);
    let (crowd, mob) = (crowd(9, now()).unwrap(), crowd(99, now()).unwrap());
    let cases: [(Option<&Forged>, u16, &str, Option<u64>); 10] = [
        (None, 403, "certificate.missing", Some(7)),
        (Some(&good), 200, "", None),
        (Some(&nul), 200, "", None),
        (Some(&revoked), 403, "certificate.revoked", Some(13)),
        (Some(&stranger), 403, "certificate.untrusted", Some(16)),
        (Some(&crowd), 403, "certificate.untrusted", Some(16)),
        (Some(&mob), 403, "certificate.untrusted", Some(16)),
        (Some(&servers), 403, "certificate.usage", Some(16)),
        (Some(&expired), 403, "certificate.expired", Some(17)),
        (Some(&early), 403, "certificate.expired", Some(17)),
    ];
    for protocol in ["--http1.1", "--http2"] {
        for (n, (forged, status, code, substatus)) in cases.into_iter().enumerate() {
            let path = format!("/reports/case-{n}{protocol}");
            let answer = scene.ask(forged, &path, &[protocol]);
            assert_eq!((answer.status, &*answer.code()), (status, code), "{answer:?}");
            let logged = || scene.gateway.access().into_iter().find(|line| line["path"] == path);
            eventually("it is logged", || logged().is_some());
            let line = logged().unwrap();
            assert_eq!(line["substatus"].as_u64(), substatus, "{line}");
            assert_eq!(line["certificate"].is_string(), forged.is_some(), "{line}");
        }
    }
    let reached = || scene.nginx.seen().iter().filter(|line| line.contains("case-")).count();
    eventually("the good ones reach the backend", || reached() == 4);
    assert_eq!(scene.gateway.metric("sitegate_connection_ends_total"), 0.0, "and no alert");
}

#[test]
fn the_backend_sees_only_good_client_certificates() {
    let scene = Scene::new("");
    let good = scene.forge(|_| ());
    let stranger = forge(&Pki::new("Strangers", now()).unwrap(), |_| ());
    let thumbprint: String = sha256(&good).iter().map(|byte| format!("{byte:02X}")).collect();
    let lie = ["-H", "Sitegate-Client-Cert-Sha256: AA", "-H", "Sitegate_Client_Cert_Sha256: AA"];
    for (forged, path, told) in [
        (Some(&good), REPORTS, thumbprint.as_str()),
        (Some(&good), OPEN, &thumbprint),
        (Some(&stranger), OPEN, ""),
        (None, OPEN, ""),
    ] {
        let answer = scene.ask(forged, path, &lie);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.text(), format!("cert={told}\n"), "{path}");
    }
}

#[test]
fn a_new_crl_applies_to_the_next_request_on_open_connections() {
    let scene = Scene::new("client_crl = \"clients.crl\"");
    let client = scene.forge(|_| ());
    let mut wire = Wire::open(scene.client(&client), scene.gateway.port, Gateway::HOST).unwrap();
    let mut ask = |path: &str| {
        wire.send(request(path, "").as_bytes());
        let (status, body) = wire.read_answer();
        (status, code(&body))
    };
    assert_eq!(ask(REPORTS), (200, String::new()));
    scene.revoke(&[&client]);
    eventually("it is revoked", || ask(REPORTS) == (403, "certificate.revoked".to_owned()));
    assert_eq!(ask(OPEN).0, 200, "the connection goes on, and what needs no certificate does");
    std::fs::write(scene.gateway.path("clients.crl"), "garbage").unwrap();
    eventually("a broken list is complained of", || {
        scene.gateway.metric("sitegate_client_trust_problems") == 1.0
    });
    assert_eq!(ask(REPORTS).1, "certificate.revoked", "and the last good one stays in force");
    let problems = &scene.gateway.status()["site_systems"][0]["clients"]["problems"];
    assert!(problems[0].as_str().unwrap().contains("clients.crl"), "{problems}");
    scene.revoke(&[]);
    eventually("it is good again", || ask(REPORTS).0 == 200);
    let other = Pki::new("Others", now()).unwrap();
    std::fs::write(scene.gateway.path("clients.pem"), other.root()).unwrap();
    eventually("its authority is no longer trusted", || ask(REPORTS).1 == "certificate.untrusted");
}

#[test]
fn a_resumed_session_is_judged_by_its_certificate() {
    let scene = Scene::new("client_crl = \"clients.crl\"");
    let client = scene.forge(|_| ());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        scene.revoke(&[]);
        let provider = client_config(&scene.gateway).crypto_provider().clone();
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_webpki_verifier(verifier(&scene.gateway))
            .with_no_client_auth();
        let mut config = presenting(config, &client);
        config.resumption = Resumption::in_memory_sessions(8);
        let open = || {
            let port = scene.gateway.port;
            let mut wire = Wire::open(config.clone(), port, Gateway::HOST).unwrap();
            wire.send(request(REPORTS, "").as_bytes());
            let (status, body) = wire.read_answer();
            (wire.0.conn.handshake_kind().unwrap(), status, code(&body))
        };
        eventually("it is good", || open().1 == 200);
        assert_eq!(open(), (HandshakeKind::Resumed, 200, String::new()), "{version:?}");
        scene.revoke(&[&client]);
        eventually("it is revoked", || open().1 == 403);
        let again = (HandshakeKind::Resumed, 403, "certificate.revoked".to_owned());
        assert_eq!(open(), again, "{version:?}");
    }
}

fn verifier(gateway: &Gateway) -> Arc<rustls::client::WebPkiServerVerifier> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(gateway.path("root.pem")).unwrap();
    for der in CertificateDer::pem_slice_iter(&pem) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap()
}

#[test]
fn a_bound_token_opens_for_the_holder_of_its_certificate_alone() {
    let scene = Scene::new("");
    let (own, other) = (scene.forge(|_| ()), scene.forge(|_| ()));
    // The binding is to the key: the issuer does not matter.
    let foreign = forge(&Pki::new("Strangers", now()).unwrap(), |_| ());
    let bind = |forged: &Forged| {
        let path = scene.gateway.path("bound.pem");
        std::fs::write(&path, &forged.leaf).unwrap();
        let device = crate::support::DEVICE;
        scene.gateway.issue(&["--device", device, "--certificate", path.to_str().unwrap()])
    };
    let (token, of_foreign, free) = (bind(&own), bind(&foreign), scene.gateway.token());
    let claims: serde_json::Value =
        serde_json::from_slice(&B64.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(claims["cnf"]["x5t#S256"], B64.encode(sha256(&own)));
    for protocol in ["--http1.1", "--http2"] {
        for (forged, token, status, code) in [
            (Some(&own), &token, 200, ""),
            (Some(&other), &token, 401, "token.binding"),
            (None, &token, 401, "token.binding"),
            (Some(&foreign), &of_foreign, 200, ""),
            (Some(&foreign), &token, 401, "token.binding"),
            (Some(&own), &free, 200, ""),
            (None, &free, 200, ""),
        ] {
            let header = format!("Authorization: Bearer {token}");
            let answer = scene.ask(forged, POLICY, &[protocol, "-H", &header]);
            assert_eq!((answer.status, &*answer.code()), (status, code), "{answer:?}");
        }
    }
}

#[test]
fn where_clients_are_not_asked_a_bound_token_opens_nothing() {
    let scene = Scene::new("");
    let own = scene.forge(|_| ());
    let path = scene.gateway.path("bound.pem");
    std::fs::write(&path, &own.leaf).unwrap();
    let args = ["--device", crate::support::DEVICE, "--certificate", path.to_str().unwrap()];
    let token = scene.gateway.issue(&args);
    let text = scene.gateway.config_text();
    let off = text
        .replace("client_certificate = \"request\"\nclient_ca = \"clients.pem\"", "")
        .replace("require = \"certificate\"", "require = \"device\"");
    scene.gateway.write_config(&off);
    let header = format!("Authorization: Bearer {token}");
    eventually("nobody is asked", || {
        let answer = scene.ask(Some(&own), POLICY, &["-H", &header]);
        (answer.status, &*answer.code()) == (401, "token.binding")
    });
}

#[test]
fn a_client_certificate_is_valid_for_one_site_system_only() {
    let scene = Scene::new("");
    let client = scene.forge(|_| ());
    let second = format!(
        "[[site_system]]\nname = \"dp01\"\nroles = [\"distribution-point\"]\n\
         listen = \"127.0.0.1:{}\"\nhosts = [\"dp01.contoso.com\"]\nbackend = \"{}\"\n\
         client_certificate = \"request\"\nclient_ca = \"clients.pem\"\n\
         [[site_system.route]]\npath = \"/reports/\"\nrequire = \"certificate\"\n",
        scene.gateway.port,
        scene.nginx.url()
    );
    scene.gateway.write_config(&(scene.gateway.config_text() + &second));
    eventually("there are two", || {
        scene.gateway.status()["site_systems"].as_array().unwrap().len() == 2
    });
    for (name, host, status) in [
        ("mp01.contoso.com", "mp01.contoso.com", 200),
        ("mp01.contoso.com", "dp01.contoso.com", 421),
        ("dp01.contoso.com", "mp01.contoso.com", 421),
        ("dp01.contoso.com", "dp01.contoso.com", 200),
    ] {
        let mut wire = Wire::open(scene.client(&client), scene.gateway.port, name).unwrap();
        wire.send(format!("GET {REPORTS} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(wire.read_answer().0, status, "{name} asked for {host}");
    }
}
