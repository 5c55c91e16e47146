//! The token service over HTTPS: registrations and tokens per second of one gateway, and the
//! processor time of each, with SQLite and with PostgreSQL (if it is installed).
//!
//! `cargo bench --bench endpoints -- [--seconds N]`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench that cannot be set up shall stop, and says what it measured"
)]

#[allow(dead_code, reason = "the tests do more with it")]
#[path = "../tests/scenarios/support/postgres.rs"]
mod postgres;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::Postgres;
use serde_json::json;
use sitegate::clock::Clock;
use sitegate::token::SignerKind;
use sitegate_lab::{SimClient, SimDevice, Trust};
use tokio::task::JoinSet;

const HOST: &str = "mp01.contoso.com";
const PATH: &str = "/sitegate/oauth2";
/// Concurrent clients.
const CLIENTS: usize = 8;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != "--seconds").skip(1);
    let seconds: f64 = args.next().map_or(3.0, |text| text.parse().unwrap());
    measure("SQLite", None, seconds).await;
    if !Path::new("/usr/lib/postgresql").exists() {
        return println!("PostgreSQL is not installed");
    }
    let server = Postgres::durable();
    measure("PostgreSQL", Some(&server.url()), seconds).await;
}

/// A gateway that ends with the bench.
struct Gateway {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start(store: Option<&str>) -> Gateway {
        // On the build's disk, not on a temporary file system in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, admin, metrics) = (free(), free(), free());
        if let Some(url) = store {
            sitegate::secret::write_private(&dir.path().join("store"), url.as_bytes()).unwrap();
        }
        let store = store.map_or("", |_| "store = \"file:store\"");
        let text = format!(
            "[site]\ncode = \"PS1\"\nstate = \"state\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [metrics]\nlisten = \"127.0.0.1:{metrics}\"\n[log]\naccess = \"off\"\nlevel = \"error\"\n\
             [limits]\nthreads = 1\n[token_service]\nregistrations_per_minute = 10000000\n\
             requests_per_minute = 10000000\n{store}\n[[site_system]]\nname = \"mp01\"\n\
             roles = [\"management-point\"]\nlisten = \"127.0.0.1:{port}\"\nhosts = [\"{HOST}\"]\n\
             backend = \"http://127.0.0.1:9\"\ntoken_service = true\n"
        );
        std::fs::write(dir.path().join("gateway.toml"), text).unwrap();
        let child = command(dir.path(), &["run"]).stderr(Stdio::null()).spawn().unwrap();
        let gateway = Gateway { dir, port, child };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !gateway.say(&["health"]).0 {
            assert!(Instant::now() < deadline, "the gateway does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        gateway
    }

    fn say(&self, args: &[&str]) -> (bool, String) {
        let out = command(self.dir.path(), args).output().unwrap();
        (out.status.success(), String::from_utf8(out.stdout).unwrap().trim().to_owned())
    }

    /// User and system time so far, without that of PostgreSQL.
    fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|n| n.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sitegate"));
    command.args(args).arg("--config").arg(dir.join("gateway.toml")).stdout(Stdio::piped());
    command
}

async fn measure(store: &str, url: Option<&str>, seconds: f64) {
    let gateway = Gateway::start(url);
    let root = gateway.say(&["site", "export-root"]).1;
    let bulk = gateway.say(&["token", "bulk", "--uses", "unlimited"]).1;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = Trust::new(&root, provider).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], gateway.port));
    let issuer = format!("https://{HOST}:{}{PATH}", gateway.port);
    for what in ["registrations", "tokens"] {
        let (busy, began) = (gateway.processor_time(), Instant::now());
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let mut client = SimClient::new(at, HOST, &trust);
            let (bulk, issuer) = (bulk.clone(), issuer.clone());
            clients.spawn(async move {
                let fresh = || SimDevice::new(SignerKind::P256, &issuer, PATH).unwrap();
                let mut device = fresh();
                device.register(&mut client, Some(&bulk), json!({})).await.expect("registered");
                let mut done = 0_u32;
                while began.elapsed().as_secs_f64() < seconds {
                    if what == "registrations" {
                        device = fresh();
                        let told = device.register(&mut client, Some(&bulk), json!({})).await;
                        told.expect("registered");
                    } else {
                        let now = Clock::system().now();
                        // A device may request only so many tokens; then another one takes over.
                        if device.token(&mut client, &[], now).await.is_err() {
                            device = fresh();
                            let told = device.register(&mut client, Some(&bulk), json!({})).await;
                            told.expect("registered");
                        }
                    }
                    done += 1;
                }
                done
            });
        }
        let done: u32 = clients.join_all().await.into_iter().sum();
        let each = (gateway.processor_time() - busy).as_secs_f64() * 1e6 / f64::from(done);
        let rate = f64::from(done) / began.elapsed().as_secs_f64();
        println!(
            "{store}, {what} over HTTPS, {CLIENTS} at once: {rate:.0}/s, {each:.0} µs of a core, \
             {:.0}/s for a whole one",
            1e6 / each
        );
    }
}
