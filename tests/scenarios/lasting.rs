//! A block lasts: despite wrong clocks, a restored copy of the store, and a disk that was full when
//! the site server started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::Value;
use sitegate::purpose::Purpose;
use sitegate::token::{MintRequest, TokenSigner};
use sitegate_lab::{SimClient, SimDevice};
use tokio::runtime::Runtime;

use crate::machine::can_mount;
use crate::site_server::{self, ISSUER, Server, ask, client, elsewhere, joined, now, runtime};
use crate::soak::faketime;
use crate::support::{Gateway, Nginx, Plan, Postgres, eventually};

const POLICY: &str = "/SMS_MP/.sms_pol?x.1_00";
const SMALL: &str = "/SMS_DP_SMSPKG$/PS100001/small.txt";

/// The clock of a process, which can be changed while the process runs.
struct Hands {
    dir: tempfile::TempDir,
}

impl Hands {
    fn new() -> Hands {
        let hands = Hands { dir: tempfile::tempdir().unwrap() };
        hands.set("+0");
        hands
    }

    fn set(&self, offset: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, self.dir.path().join("offset")).unwrap();
    }

    /// Returns the shell command that sets this clock in the environment of a process.
    fn export(&self) -> String {
        format!(
            "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 \
             DONT_FAKE_MONOTONIC=1",
            faketime(),
            self.dir.path().join("offset").display()
        )
    }
}

/// Returns the shell command that shifts the clock of a process.
pub fn clock(offset: &str) -> String {
    format!("export LD_PRELOAD={} FAKETIME={offset} DONT_FAKE_MONOTONIC=1", faketime())
}

/// A token that is valid on every clock that is less than a day wrong, for an unknown device.
fn boot_media(server: &Server, device: &str) -> String {
    let key = std::fs::read(server.gateway.path("state/token/token.key")).unwrap();
    let signer = TokenSigner::from_pem(&key, None).unwrap();
    let request = MintRequest {
        purpose: Purpose::Media,
        device: Some(device),
        user: None,
        audience: "urn:sccm:service",
        issuer: ISSUER,
        hierarchy: "cdcc5e91-0000-4000-8000-000000000000".parse().unwrap(),
        lifetime_s: Some(7 * 86_400),
        bound_to: None,
        scope: None,
        origins: &[],
        id: uuid::Uuid::new_v4(),
    };
    let then = jiff::Timestamp::from_second(now().as_second() - 2 * 86_400).unwrap();
    signer.mint(&request, then).unwrap()
}

fn fresh_device() -> String {
    format!("GUID:{}", uuid::Uuid::new_v4().to_string().to_uppercase())
}

/// Returns curl's status with a token, ignoring the certificate's dates.
fn asked(gateway: &Gateway, token: &str) -> u16 {
    gateway.curl_as(token, SMALL, &["-k"]).status
}

/// Blocks a device. Returns the time until the gateway denied it.
fn blocked(server: &Server, gateway: &Gateway) -> Duration {
    let device = fresh_device();
    let token = boot_media(server, &device);
    assert_eq!(asked(gateway, &token), 200, "before the block");
    server.said(&["site", "block", &device, "--no-wait"]);
    let since = Instant::now();
    eventually("the gateway denies", || asked(gateway, &token) == 403);
    since.elapsed()
}

#[rstest]
fn a_block_reaches_a_gateway_despite_wrong_clocks(
    #[values("gateway", "site server")] whose: &str,
    #[values("-1d", "-10m", "+10m", "+1d")] offset: &str,
) {
    let nginx = Nginx::start();
    let hands = Hands::new();
    let of_server = if whose == "site server" { hands.export() } else { "true".to_owned() };
    let of_gateway = if whose == "gateway" { hands.export() } else { "true".to_owned() };
    let server = Server::planned(&nginx.url(), "", "", |_| {}, &of_server);
    let mut gateway = elsewhere(&nginx.url(), "gw1", &server.join_token("gw1"), "");
    let plan = Plan::to(&nginx.url()).first(&[], &of_gateway);
    gateway.relaunch(plan);
    gateway.wait_until_ready();
    println!("{whose} +0: {:?}", blocked(&server, &gateway));

    hands.set(offset);
    println!("{whose} {offset}: {:?}", blocked(&server, &gateway));
    // A new connection, and a start, with the wrong clock.
    gateway.kill();
    gateway.launch();
    if (whose, offset) == ("gateway", "-1d") {
        // Its certificate lies in the future, so no client is served; it still receives blocks.
        let version = || {
            let told = gateway.get(gateway.admin, "/api/v1/status")?.1;
            serde_json::from_str::<Value>(&told).ok()?["site_server"]["version"].as_u64()
        };
        eventually("it runs", || version().is_some());
        let before = version();
        server.said(&["site", "block", &fresh_device(), "--no-wait"]);
        eventually("it hears of a block", || version() > before);
        return;
    }
    gateway.wait_until_ready();
    println!("{whose} {offset}, started anew: {:?}", blocked(&server, &gateway));

    let about = |text: &str| text.contains("clock is") && text.contains("this machine's");
    eventually("readiness tells", || {
        gateway
            .get(gateway.metrics, "/readyz")
            .is_some_and(|(code, text)| code == 200 && about(&text))
    });
    let status = gateway.status();
    assert!(about(&status["site_server"]["warnings"].to_string()), "{status}");
    let ahead = gateway.metric("sitegate_site_server_clock_ahead_seconds");
    assert!(ahead.abs() > 500.0, "{ahead}");
    let doctor = gateway.command(&["doctor", "--format", "json"]).output().unwrap().stdout;
    let doctor: Value = serde_json::from_slice(&doctor).unwrap();
    let found =
        doctor.as_array().unwrap().iter().any(|row| row["id"] == "doctor.clock_site_server");
    assert!(found, "{doctor}");
}

#[rstest]
#[case::a_day_behind("-1d", true)]
#[case::years_ahead("+3y", false)]
fn a_join_with_a_wrong_clock_says_so(#[case] offset: &str, #[case] joins: bool) {
    let nginx = Nginx::start();
    let server = Server::start(&nginx.url());
    let hands = Hands::new();
    hands.set(offset);
    let mut gateway = elsewhere(&nginx.url(), "gw1", &server.join_token("gw1"), "");
    gateway.relaunch(Plan::to(&nginx.url()).first(&[], &hands.export()));
    eventually("it tells of the clock", || gateway.log().contains("clock"));
    assert!(!gateway.log().contains("root key is not the one"), "{}", gateway.log());
    if joins {
        eventually("it has joined", || gateway.log().contains("has joined the site"));
    }
}

/// A site with a remote gateway, and two devices with tokens.
struct Site {
    server: Server,
    _gateway: Gateway,
    runtime: Runtime,
    at_server: SimClient,
    at_gateway: SimClient,
    devices: [(SimDevice, String); 2],
}

impl Site {
    fn new(server: Server, nginx: &Nginx) -> Site {
        let gateway = joined(&nginx.url(), "gw1", &server);
        let runtime = runtime();
        let (at_server, mut at_gateway) = (client(&server.gateway), client(&gateway));
        let bulk = server.bulk();
        let devices =
            [(); 2].map(|()| site_server::registered(&runtime, &mut at_gateway, &bulk).unwrap());
        Site { server, _gateway: gateway, runtime, at_server, at_gateway, devices }
    }

    fn at_server(&mut self, device: usize) -> u16 {
        self.at_server.close();
        ask(&self.runtime, &mut self.at_server, &self.devices[device].1, POLICY).0
    }

    fn at_gateway(&mut self, device: usize) -> u16 {
        self.at_gateway.close();
        ask(&self.runtime, &mut self.at_gateway, &self.devices[device].1, POLICY).0
    }

    fn block(&mut self, device: usize) {
        let id = self.devices[device].0.id().unwrap().to_owned();
        let out = self.server.gateway.command(&["site", "block", &id]).output().unwrap();
        let told = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.success() && told.contains("in force at gw1"), "{told}");
        assert_eq!(self.at_server(device), 403, "{told}");
        // On a busy machine the command may not have waited long enough.
        eventually("the gateway has it, too", || self.at_gateway(device) == 403);
    }

    fn restored(&self) -> String {
        self.server.said(&["site", "restored"])
    }

    /// The first device was blocked after the copy was made, and stays blocked.
    fn forgets_nobody(&mut self) {
        let id = self.devices[0].0.id().unwrap().to_owned();
        assert_eq!(self.at_gateway(0), 403, "the gateway goes on denying");
        eventually("it is known what the copy has forgotten", || self.restored().contains(&id));
        eventually("the site server denies", || self.at_server(0) == 403);
        assert_eq!(self.at_gateway(1), 200);
        // A new block is added to the recovered ones.
        self.block(1);
        assert_eq!((self.at_server(0), self.at_gateway(0)), (403, 403));
        self.server.said(&["site", "restored", "--forget"]);
        eventually("the operator has confirmed", || {
            self.at_server(0) == 200 && self.at_gateway(0) == 200
        });
        assert_eq!(self.restored(), "");
        assert_eq!(
            (self.at_server(1), self.at_gateway(1)),
            (403, 403),
            "blocked after the restore"
        );
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[rstest]
// The state directory still has the last blocklist.
#[case::of_the_store_alone(false)]
// No file on the machine has it: only the gateways do.
#[case::of_the_whole_machine(true)]
fn an_older_sqlite_copy_keeps_blocks(#[case] whole: bool) {
    let nginx = Nginx::start();
    let mut site = Site::new(Server::start(&nginx.url()), &nginx);
    let (state, copy) = (site.server.gateway.path("state"), site.server.gateway.path("copy"));
    site.server.gateway.kill();
    copy_folder(&state, &copy);
    site.server.gateway.launch();
    site.server.gateway.wait_until_ready();
    site.block(0);
    site.server.gateway.kill();
    if whole {
        copy_folder(&copy, &state);
    } else {
        copy_folder(&copy.join("store"), &state.join("store"));
    }
    site.server.gateway.launch();
    site.server.gateway.wait_until_ready();
    if !whole {
        assert_eq!(site.at_server(0), 403, "from the first request on");
    }
    site.forgets_nobody();
}

/// Runs an action on a site server, then restores its store from before.
fn and_restored(server: &mut Server, what: impl FnOnce(&Server)) {
    let (store, copy) = (server.gateway.path("state/store"), server.gateway.path("copy"));
    server.gateway.kill();
    copy_folder(&store, &copy);
    server.gateway.launch();
    server.gateway.wait_until_ready();
    what(server);
    server.gateway.kill();
    copy_folder(&copy, &store);
    server.gateway.launch();
    server.gateway.wait_until_ready();
}

#[test]
fn an_older_copy_takes_no_gateway_back_that_was_revoked_since() {
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    let (_first, _second) =
        (joined(&nginx.url(), "gw1", &server), joined(&nginx.url(), "gw2", &server));
    and_restored(&mut server, |server| {
        server.said(&["site", "gateway", "revoke", "gw1", "--reason", "sold"]);
        // The block reaches gw2 and no longer gw1, so the gateways know of the revocation.
        let out = server.gateway.command(&["site", "block", &fresh_device()]).output().unwrap();
        let told = String::from_utf8(out.stderr).unwrap();
        assert!(told.contains("in force at gw2") && !told.contains("gw1"), "{told}");
    });
    let state = |name: &str| {
        let listed = server.said(&["site", "gateway", "list", "--format", "json"]);
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let row = listed.into_iter().find(|row| row["gateway"] == name).unwrap();
        row["state"].as_str().unwrap().to_owned()
    };
    assert_eq!((state("gw1"), state("gw2")), ("revoked".to_owned(), "joined".to_owned()));
}

#[test]
fn an_older_copy_registers_no_device_that_was_blocked_since() {
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    let gateway = joined(&nginx.url(), "gw1", &server);
    let (runtime, bulk) = (runtime(), server.bulk());
    let mut device = None;
    and_restored(&mut server, |server| {
        let mut client = client(&gateway);
        let (new, _) = site_server::registered(&runtime, &mut client, &bulk).unwrap();
        server.said(&["site", "block", new.id().unwrap()]);
        device = Some(new);
    });
    let mut client = client(&gateway);
    let mut device = device.unwrap();
    let again = device.register(&mut client, Some(&bulk), serde_json::json!({}));
    assert_eq!(runtime.block_on(again).unwrap_err().code(), Some("device.blocked"));
}

#[test]
fn a_bulk_token_unknown_to_an_older_copy_registers_no_device() {
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    let gateway = joined(&nginx.url(), "gw1", &server);
    let runtime = runtime();
    let mut bulk = String::new();
    and_restored(&mut server, |server| {
        bulk = server.said(&["token", "bulk", "--uses", "1"]);
        site_server::registered(&runtime, &mut client(&gateway), &bulk).unwrap();
    });
    let again = site_server::registered(&runtime, &mut client(&gateway), &bulk);
    assert_eq!(again.err().unwrap().code(), Some("registration.token_used_up"));
}

#[test]
fn an_older_copy_that_was_written_to_keeps_blocks() {
    let nginx = Nginx::start();
    let mut site = Site::new(Server::start(&nginx.url()), &nginx);
    let (store, copy) = (site.server.gateway.path("state/store"), site.server.gateway.path("copy"));
    site.server.gateway.kill();
    copy_folder(&store, &copy);
    site.server.gateway.launch();
    site.server.gateway.wait_until_ready();
    site.block(0);
    site.server.gateway.kill();
    copy_folder(&copy, &store);
    // Its version numbers exceed those of the lost store.
    for n in 0..20 {
        site.server.said(&["site", "block", "--no-wait", "--user", &format!("somebody-{n}")]);
    }
    site.server.gateway.launch();
    site.server.gateway.wait_until_ready();
    assert_eq!(site.at_server(0), 403);
    site.forgets_nobody();
}

#[test]
fn an_older_postgresql_copy_restored_live_keeps_blocks() {
    let nginx = Nginx::start();
    let postgres = Postgres::start();
    let url = postgres.url();
    let put = |gateway: &Gateway| {
        sitegate::secret::write_private(&gateway.path("store"), url.as_bytes()).unwrap();
        let seal = "0123456789abcdef".repeat(3);
        sitegate::secret::write_private(&gateway.path("seal"), seal.as_bytes()).unwrap();
    };
    let server =
        Server::prepared(&nginx.url(), "seal = \"file:seal\"", "store = \"file:store\"", put);
    let mut site = Site::new(server, &nginx);
    let copy = site.server.gateway.path("copy");
    postgres.run("pg_dump", &["-Fc", "-f", copy.to_str().unwrap(), &url]);
    site.block(0);
    let restore = ["--clean", "--if-exists", "--single-transaction", "-d", &url];
    postgres.run("pg_restore", &[&restore[..], &[copy.to_str().unwrap()]].concat());
    for _ in 0..20 {
        assert_eq!((site.at_server(0), site.at_gateway(0)), (403, 403));
    }
    site.forgets_nobody();
}

#[rstest]
#[case::empty(0)]
#[case::half(50)]
fn a_truncated_known_blocks_file_is_put_aside(#[case] percent: usize) {
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    let (device, path) = (fresh_device(), server.gateway.path("state/blocks-known.json"));
    let token = boot_media(&server, &device);
    server.said(&["site", "block", &device]);
    server.gateway.kill();
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
    std::fs::write(&path, &whole[..first * percent / 100]).unwrap();
    server.gateway.launch();
    server.gateway.wait_until_ready();
    server.gateway.assert_logged("the record of the blocks last in force here is missing");
    assert!(path.with_extension("unreadable").exists());
    assert_eq!(asked(&server.gateway, &token), 403, "the store knows it");
    let again: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let name = sitegate::token::block_name(&device);
    assert!(again["blocks"].to_string().contains(&name), "{again}");
}

#[test]
fn the_documented_procedure_moves_a_store_to_postgresql() {
    let nginx = Nginx::start();
    let mut site = Site::new(Server::start(&nginx.url()), &nginx);
    site.block(0);
    site.server.gateway.kill();
    let postgres = Postgres::start();
    let gateway = &site.server.gateway;
    sitegate::secret::write_private(&gateway.path("store"), postgres.url().as_bytes()).unwrap();
    let seal = "0123456789abcdef".repeat(3);
    sitegate::secret::write_private(&gateway.path("seal"), seal.as_bytes()).unwrap();
    let config = gateway.config_text();
    let config = config.replacen("[site]", "[site]\nseal = \"file:seal\"", 1);
    let config = config.replacen("[token_service]", "[token_service]\nstore = \"file:store\"", 1);
    gateway.write_config(&config);
    assert_eq!(site.server.said(&["site", "devices", "--format", "json"]), "[]");

    let manual = include_str!("../../docs/store.md");
    let steps = manual.split("```\n").find(|block| block.starts_with("psql")).unwrap();
    let done = Command::new("bash")
        .args(["-euo", "pipefail", "-c", steps])
        .current_dir(gateway.path("state/store"))
        .env("URL", postgres.url())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    site.server.gateway.launch();
    site.server.gateway.wait_until_ready();
    assert_eq!((site.at_server(0), site.at_gateway(0)), (403, 403));
    site.block(1);
    assert_eq!(site.restored(), "", "it is no older copy");
}

#[test]
fn a_site_server_started_on_a_full_disk_blocks_once_it_has_room() {
    if !can_mount() {
        return;
    }
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    let mut gateway = joined(&nginx.url(), "gw1", &server);
    server.gateway.kill();
    let full = "cp -a state state-before && mount -t tmpfs -o size=4m none state && \
                cp -a state-before/. state && { cat /dev/zero > state/filler 2> /dev/null || true; }";
    server.gateway.relaunch(Plan::to(&nginx.url()).first(&["unshare", "-m"], full));
    server.gateway.wait_until_ready();
    server.gateway.assert_logged("only blocks are read from it");
    let state = PathBuf::from(format!("/proc/{}/root", server.gateway.pid()));
    let state = state.join(server.gateway.path("state").strip_prefix("/").unwrap());
    std::fs::remove_file(state.join("filler")).unwrap();
    eventually("the store is written again", || {
        server.gateway.log().contains("can be written again")
    });
    let device = fresh_device();
    let token = boot_media(&server, &device);
    assert_eq!(asked(&gateway, &token), 200);
    let block = server.gateway.command(&["site", "block", &device]);
    let args: Vec<_> = block.get_args().collect();
    within(&server.gateway, block.get_program().to_str().unwrap(), &args);
    eventually("the gateway denies", || asked(&gateway, &token) == 403);
    eventually("so does the site server", || asked(&server.gateway, &token) == 403);
    gateway.kill();
}

/// Runs a command with the file system of the process.
fn within(gateway: &Gateway, program: &str, args: &[&std::ffi::OsStr]) -> String {
    let pid = gateway.pid().to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, "-m", "-w"]).arg(program).args(args);
    let out = command.output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{told}");
    told
}

#[test]
fn a_site_server_started_on_a_read_only_disk_blocks_later() {
    if !can_mount() {
        return;
    }
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    server.gateway.kill();
    let closed = "mount --bind state state && mount -o remount,ro,bind state";
    server.gateway.relaunch(Plan::to(&nginx.url()).first(&["unshare", "-m"], closed));
    server.gateway.wait_until_ready();
    let state = server.gateway.path("state");
    within(&server.gateway, "mount", &["-o".as_ref(), "remount,rw,bind".as_ref(), state.as_ref()]);
    eventually("the store is written again", || {
        server.gateway.log().contains("can be written again")
    });
    let device = fresh_device();
    let token = boot_media(&server, &device);
    assert_eq!(asked(&server.gateway, &token), 200);
    server.said(&["site", "block", &device]);
    eventually("it denies", || asked(&server.gateway, &token) == 403);
}

#[rstest]
#[case::of_a_later_version(
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
     VALUES (9999, 'later', 1, x'00', 0)",
    "was changed by a later version of sitegate"
)]
#[case::with_an_edited_step(
    "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2",
    "tables cannot be brought up to date"
)]
fn a_store_that_is_not_understood_refuses_to_start(#[case] sql: &str, #[case] why: &str) {
    let nginx = Nginx::start();
    let mut gateway = Plan::to(&nginx.url()).start();
    gateway.kill();
    let script = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2])";
    let store = gateway.path("state/store/site.db");
    let done = Command::new("python3").args(["-c", script]).arg(&store).arg(sql).status().unwrap();
    assert!(done.success());
    gateway.launch();
    assert_ne!(gateway.wait(), 0);
    assert!(gateway.log().contains(why), "{}", gateway.log());
}

#[test]
fn a_block_says_who_has_it_and_who_has_not() {
    let nginx = Nginx::start();
    let mut server = Server::start(&nginx.url());
    let gateway = joined(&nginx.url(), "gw1", &server);
    let block = |server: &Server, more: &[&str]| {
        let device = fresh_device();
        let args = [&["site", "block", &device][..], more].concat();
        let out = server.gateway.command(&args).output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stderr).unwrap()
    };
    let told = block(&server, &[]);
    assert!(told.contains("in force on this host") && told.contains("in force at gw1"), "{told}");
    let told = block(&server, &["--no-wait"]);
    assert_eq!(told.trim(), "blocked");
    gateway.signal("STOP");
    let told = block(&server, &[]);
    assert!(told.contains("NOT in force at gw1, last seen"), "{told}");
    gateway.signal("CONT");
    server.gateway.kill();
    let told = block(&server, &[]);
    assert!(told.contains("NOT sent to gateways on other hosts"), "{told}");
    assert!(told.contains("no sitegate with this configuration responds on this host"), "{told}");
}
