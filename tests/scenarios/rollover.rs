//! The site's root, role authority and token key are rolled over while clients work, and no client
//! notices.

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use crate::support::{Gateway, Nginx, Plan, Wire, eventually};

const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";

/// The trust and the tokens of clients; both change while they run.
struct Belongings {
    trust: ClientConfig,
    tokens: Vec<String>,
}

/// Clients that open a new connection for each request, and use each of their tokens in turn.
struct Crowd {
    belongings: Arc<Mutex<Belongings>>,
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicUsize>>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn start(gateway: &Gateway, tokens: Vec<String>) -> Crowd {
        let belongings = Arc::new(Mutex::new(Belongings { trust: exported(gateway), tokens }));
        let (stop, failures) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut crowd =
            Crowd { belongings, stop, rounds: Vec::new(), failures, threads: Vec::new() };
        for _ in 0..3 {
            let rounds = Arc::new(AtomicUsize::new(0));
            crowd.rounds.push(rounds.clone());
            let (belongings, stop) = (crowd.belongings.clone(), crowd.stop.clone());
            let (failures, port) = (crowd.failures.clone(), gateway.port);
            crowd.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (trust, tokens) = {
                        let now = belongings.lock().unwrap();
                        (now.trust.clone(), now.tokens.clone())
                    };
                    for token in tokens {
                        if let Err(why) = ask(trust.clone(), port, &token) {
                            failures.lock().unwrap().push(why);
                        }
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        crowd
    }

    /// Changes the belongings, and waits until each client has used them.
    fn have(&self, change: impl FnOnce(&mut Belongings)) {
        change(&mut self.belongings.lock().unwrap());
        self.go_around();
    }

    /// Waits until each client has completed a round with its current belongings.
    fn go_around(&self) {
        let before: Vec<usize> = self.rounds.iter().map(|r| r.load(Ordering::Relaxed)).collect();
        eventually("every client has come around", || {
            let mut both = self.rounds.iter().zip(&before);
            both.all(|(rounds, before)| rounds.load(Ordering::Relaxed) > before + 1)
        });
    }

    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let rounds = self.rounds.iter().map(|r| r.load(Ordering::Relaxed)).sum();
        (rounds, Arc::try_unwrap(self.failures).unwrap().into_inner().unwrap())
    }
}

fn ask(trust: ClientConfig, port: u16, token: &str) -> Result<(), String> {
    let mut wire = Wire::open(trust, port, Gateway::HOST).map_err(|e| e.to_string())?;
    let host = Gateway::HOST;
    wire.send(
        format!(
            "GET {POLICY} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        )
        .as_bytes(),
    );
    let (status, body) = wire.read_answer();
    (status == 200)
        .then_some(())
        .ok_or_else(|| format!("{status}: {}", String::from_utf8_lossy(&body)))
}

fn run(gateway: &Gateway, args: &[&str]) -> Output {
    gateway.command(args).output().unwrap()
}

/// Runs a step, which must succeed.
fn step(gateway: &Gateway, args: &[&str]) {
    let out = run(gateway, &[&["site", "rollover"], args].concat());
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Runs a step, which must be refused.
fn refused(gateway: &Gateway, args: &[&str], code: &str) {
    let out = run(gateway, &[&["site", "rollover"], args].concat());
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains(code), "{args:?}: {told}");
}

/// A client that trusts the currently exported roots.
fn exported(gateway: &Gateway) -> ClientConfig {
    let pem = run(gateway, &["site", "export-root"]).stdout;
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(&pem) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// The served certificates: leaf and role authority.
fn chain(gateway: &Gateway) -> Vec<CertificateDer<'static>> {
    let wire = Wire::open(exported(gateway), gateway.port, Gateway::HOST).unwrap();
    let shown = wire.0.conn.peer_certificates().unwrap();
    shown.iter().map(|der| der.clone().into_owned()).collect()
}

fn kid(token: &str) -> String {
    use base64::Engine;
    let head = token.split('.').next().unwrap();
    let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(head).unwrap();
    serde_json::from_slice::<Value>(&head).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// The keys that the token service publishes.
fn published(gateway: &Gateway) -> Vec<String> {
    let answer = gateway.curl("/sitegate/oauth2/jwks", &[]);
    let jwks: Value = serde_json::from_slice(&answer.body).unwrap();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Shifts the last step into the past.
fn wait_out(state: &Path, minutes: i64) {
    let text = std::fs::read_to_string(state).unwrap();
    let mut rings: Value = serde_json::from_str(&text).unwrap();
    for (_, ring) in rings.as_object_mut().unwrap() {
        let since: jiff::Timestamp = ring["since"].as_str().unwrap().parse().unwrap();
        let earlier = since.checked_sub(jiff::SignedDuration::from_mins(minutes)).unwrap();
        ring["since"] = earlier.to_string().into();
    }
    std::fs::write(state, rings.to_string()).unwrap();
}

#[test]
fn everything_is_rolled_over_under_load_and_no_request_fails() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url())
        .sections("[token_service]")
        .site_system("token_service = true")
        .start();
    let old_token = gateway.token();
    let crowd = Crowd::start(&gateway, vec![old_token.clone()]);

    let before = chain(&gateway);
    step(&gateway, &["publish", "root"]);
    refused(&gateway, &["publish", "root"], "rollover.published_already");
    refused(&gateway, &["publish", "intermediate"], "rollover.other_under_way");
    refused(&gateway, &["switch", "root"], "rollover.clients_unconfirmed");
    crowd.have(|belongings| belongings.trust = exported(&gateway));
    let cer = run(&gateway, &["site", "export-root", "--format", "cer"]);
    assert!(String::from_utf8_lossy(&cer.stderr).contains("p7b"), "a .cer holds one of two");
    assert_eq!(chain(&gateway), before, "published is not used");
    step(&gateway, &["switch", "root", "--clients-have-it"]);
    eventually("another chain is served", || chain(&gateway)[1] != before[1]);
    crowd.go_around();
    eventually("no leaf hangs from the old root", || {
        run(&gateway, &["site", "rollover", "retire", "root"]).status.success()
    });
    crowd.have(|belongings| belongings.trust = exported(&gateway));

    let before = chain(&gateway);
    step(&gateway, &["publish", "intermediate"]);
    step(&gateway, &["switch", "intermediate"]);
    eventually("another role authority signs", || chain(&gateway)[1] != before[1]);
    eventually("no leaf hangs from the old role authority", || {
        run(&gateway, &["site", "rollover", "retire", "intermediate"]).status.success()
    });
    crowd.go_around();

    // curl trusts the current export.
    std::fs::write(gateway.path("root.pem"), run(&gateway, &["site", "export-root"]).stdout)
        .unwrap();
    step(&gateway, &["publish", "token-key"]);
    eventually("both keys are published", || published(&gateway).len() == 2);
    refused(&gateway, &["switch", "token-key"], "rollover.too_early");
    wait_out(&gateway.path("state/token/rollover/state.json"), 5);
    step(&gateway, &["switch", "token-key"]);
    let new_token = gateway.token();
    assert_ne!(kid(&new_token), kid(&old_token));
    eventually("the new key signs", || published(&gateway)[0] == kid(&new_token));
    crowd.have(|belongings| belongings.tokens.push(new_token.clone()));
    refused(&gateway, &["retire", "token-key"], "rollover.tokens_valid");
    crowd.have(|belongings| belongings.tokens = vec![new_token.clone()]);
    assert_eq!(gateway.curl_as(&old_token, POLICY, &[]).status, 200, "until it is retired");
    step(&gateway, &["retire", "token-key", "--tokens-end-now"]);
    eventually("the old key's token has ended", || {
        gateway.curl_as(&old_token, POLICY, &[]).status == 401
    });
    assert_eq!(published(&gateway), [kid(&new_token)]);
    crowd.go_around();

    let (rounds, failures) = crowd.end();
    assert_eq!(failures, [""; 0], "of {rounds} rounds");
    let shown = run(&gateway, &["site", "rollover", "show", "--format", "json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    assert!(shown.as_array().unwrap().iter().all(|row| row["stage"] == "steady"), "{shown}");
    let audit = String::from_utf8(run(&gateway, &["site", "audit"]).stdout).unwrap();
    assert_eq!(audit.matches("keys.changed").count(), 9, "{audit}");
}

#[test]
fn a_blocked_certificate_is_replaced_under_load() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let crowd = Crowd::start(&gateway, vec![gateway.token()]);
    let before = chain(&gateway);
    let out =
        run(&gateway, &["site", "certificate", "block", "mp01", "--reason", "key-compromise"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    eventually("another certificate is served", || chain(&gateway)[0] != before[0]);
    assert_eq!(chain(&gateway)[1], before[1]);
    crowd.go_around();
    assert_eq!(crowd.end().1, [""; 0]);
    let shown = run(&gateway, &["site", "show", "--format", "json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let blocked: Vec<&Value> =
        shown.as_array().unwrap().iter().filter(|row| row["state"] == "blocked").collect();
    assert_eq!((blocked.len(), blocked[0]["reason"].as_str()), (1, Some("key-compromise")));
    let serial = blocked[0]["certificate"]["serial"].as_str().unwrap();
    let list = std::process::Command::new("openssl")
        .args(["crl", "-inform", "DER", "-noout", "-text", "-in"])
        .arg(gateway.path("state/authority/crl/role.crl"))
        .output()
        .unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let plain = serial.trim_start_matches('0');
    assert!(list.contains(plain) && list.contains("Key Compromise"), "{serial}: {list}");
}
