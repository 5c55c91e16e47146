//! A machine that is out of descriptors, memory, disk or file events, or that allows no writes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rstest::rstest;
use sitegate::clock::Clock;
use sitegate_forge::{Forged, Order, Pki};

use crate::support::crowd::{ask, full, many_descriptors, tcp};
use crate::support::{
    Gateway, Idp, Nginx, Plan, Signer, Wire, client_config, connect, eventually, key_set, ok,
};

const OPEN: &str = "/CCM_Client/ccmsetup.cab";

#[test]
fn a_machine_without_roots_serves_what_needs_none() {
    let nginx = Nginx::start();
    let none = "export SSL_CERT_FILE=/nonexistent SSL_CERT_DIR=/nonexistent";
    let gateway = Plan::to(&nginx.url()).first(&[], none).start();
    // One connection for each shard.
    for _ in 0..8 {
        assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    }
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).first(&[], "ulimit -S -n 64; ulimit -H -n 1000").start();
    assert_eq!(sitegate::os::descriptors(gateway.pid()), Some(1000));
    gateway.assert_logged("the limit of open files is less than limits.connections needs");
    let script = "ulimit -n 1000; exec \"$0\" \"$@\"";
    let check = gateway.command(&["check"]);
    let out = Command::new("sh")
        .args(["-c", script])
        .arg(check.get_program())
        .args(check.get_args())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("open files may be needed, and the limit here is 1000"), "{said}");
}

#[rstest]
fn with_too_few_descriptors_it_does_not_start(#[values(12, 40, 100)] descriptors: u32) {
    let limit = format!("ulimit -n {descriptors}");
    let mut gateway = Gateway::prepare(Plan::to("http://127.0.0.1:1").first(&[], &limit));
    gateway.launch();
    assert_eq!(gateway.wait(), 1);
    let told = format!("{descriptors} files may be open, and it needs");
    assert!(gateway.log().contains(&told), "{}", gateway.log());
    assert!(!gateway.path("state").exists(), "nothing was made");
}

#[test]
fn with_as_few_descriptors_as_it_starts_with_it_serves() {
    let nginx = Nginx::start();
    let threads = std::thread::available_parallelism().unwrap().get();
    let least = sitegate::control::machine::descriptors_min(threads, 1);
    let gateway = Plan::to(&nginx.url()).first(&[], &format!("ulimit -n {least}")).start();
    // One connection for each shard.
    for _ in 0..8 {
        assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    }
}

#[test]
fn unreachable_listeners_are_reported() {
    if !can_mount() {
        return;
    }
    let nginx = Nginx::start();
    // An isolated network that only the gateway sees.
    let mut gateway =
        Gateway::prepare(Plan::to(&nginx.url()).first(&["unshare", "-n"], "ip link set lo up"));
    gateway.launch();
    eventually("it says that it listens", || gateway.log().contains("listening"));
    let inside = |what: &str| {
        let pid = gateway.pid().to_string();
        let script = format!("ip link set lo {what}");
        let status = Command::new("nsenter").args(["-t", &pid, "-n", "sh", "-c", &script]).status();
        assert!(status.unwrap().success());
    };
    inside("down");
    let silent = format!("listener 127.0.0.1:{} does not answer", gateway.port);
    eventually("it is told", || gateway.log().contains(&silent));
    inside("up");
    eventually("it is over", || gateway.log().contains(&format!("over: {silent}")));
}

#[test]
fn without_descriptors_the_gateway_waits_and_recovers() {
    many_descriptors();
    let nginx = Nginx::start();
    let limits = "[limits]\nhandshake_time = \"500ms\"\n";
    let gateway = Plan::to(&nginx.url()).sections(limits).start();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    gateway.limit("--nofile=256:256");
    let used = gateway.processor_time();
    let began = Instant::now();
    let held: Vec<_> = (0..1000).map(|_| tcp(&gateway, b"")).collect();
    // The metrics cannot be scraped without a descriptor; the log reports the failure.
    eventually("connections cannot be accepted", || gateway.log().contains("could be accepted"));
    eventually("clients were cut, and the next ones taken", || {
        gateway.get(gateway.metrics, "/livez").is_some_and(|(status, _)| status == 200)
    });
    let (spent, took) = (gateway.processor_time() - used, began.elapsed());
    println!("{spent} hundredths of a second of processor time in {took:?}");
    assert!((spent as u128) < took.as_millis() / 20 + 50, "it spins: {spent}");
    eventually("it serves again", || gateway.curl(OPEN, &[]).status == 200);
    println!("it serves again after {:?}, with a thousand clients waiting", began.elapsed());
    drop(held);
}

#[test]
fn a_full_disk_under_the_access_log_stops_no_request() {
    let nginx = Nginx::start();
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()));
    std::os::unix::fs::symlink("/dev/full", gateway.path("access.log")).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    let ask = format!("GET {OPEN} HTTP/1.1\r\nHost: {}\r\n\r\n", Gateway::HOST);
    let mut wire = connect(&gateway);
    for n in 0..500 {
        wire.send(ask.as_bytes());
        assert_eq!(wire.read_answer().0, 200, "request {n}");
    }
    assert_eq!(gateway.curl(OPEN, &["--http2"]).status, 200);
    eventually("every line that was lost is counted", || {
        let lost = "sitegate_log_dropped_lines_total{log=\"access\",reason=\"write_failed\"}";
        gateway.metric(lost) == 501.0
    });
    gateway.assert_logged("lines of a log are dropped");
    let told = gateway.log().matches("lines of a log are dropped").count();
    assert_eq!(told, 1, "one line for the outage: {}", gateway.log());
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn files_that_cannot_grow_stop_no_request() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let before = connect(&gateway).leaf();
    // No file can grow any more, as on a full disk.
    gateway.limit("--fsize=0:0");
    for n in 0..20 {
        assert_eq!(gateway.curl(OPEN, &[]).status, 200, "request {n}");
    }
    for signal in ["HUP", "USR1", "USR2"] {
        gateway.signal(signal);
        assert_eq!(gateway.curl(OPEN, &[]).status, 200, "{signal}");
    }
    assert_eq!(connect(&gateway).leaf(), before);
}

/// A control group with a memory limit, for this process, if the machine allows one. `enter` puts a
/// shell into it, as its only process. It is removed with the test.
struct Confined(PathBuf);

impl Confined {
    fn to(bytes: u64) -> Option<Confined> {
        let name = format!("sitegate-{}", std::process::id());
        for (root, limit) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let path = PathBuf::from(root).join(&name);
            if std::fs::create_dir(&path).is_ok() {
                let confined = Confined(path);
                if std::fs::write(confined.0.join(limit), bytes.to_string()).is_ok() {
                    return Some(confined);
                }
            }
        }
        None
    }

    fn enter(&self) -> String {
        format!("echo $$ > {}", self.0.join("cgroup.procs").display())
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // It can only be removed after its last process has exited.
        for _ in 0..1000 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// A backend that answers a GET with this many bytes, and reads any other body before it answers.
fn large_backend(bytes: u64) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || large_exchange(stream, bytes));
        }
    });
    url
}

fn large_exchange(mut stream: TcpStream, bytes: u64) -> Option<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        if head.starts_with(b"GET ") {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
            stream.write_all(head.as_bytes()).ok()?;
            buffer.fill(0);
            for _ in 0..bytes >> 18 {
                stream.write_all(&buffer).ok()?;
            }
            continue;
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        match length.map(|length| length.parse::<u64>().unwrap()) {
            Some(mut rest) => {
                while rest > 0 {
                    rest -= stream.read(&mut buffer).ok().filter(|n| *n > 0)? as u64;
                }
            }
            None => {
                // The body is zeros, so no part of it looks like the last chunk.
                let mut last = Vec::new();
                while !last.ends_with(b"\r\n0\r\n\r\n") {
                    let n = stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
                    last.extend(&buffer[..n]);
                    last.drain(..last.len().saturating_sub(7));
                }
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()?;
    }
}

#[test]
fn large_uploads_and_downloads_at_once_pass_in_128_mebibytes() {
    const LIMIT: u64 = 128 << 20;
    // Twelve transfers: together 768 MiB, or more than ten GiB.
    let each: u64 = if full() { 896 << 20 } else { 64 << 20 };
    let url = large_backend(each);
    let confined = Confined::to(LIMIT);
    let route = "[[site_system.route]]\npath = \"/large/\"\nrequire = \"anonymous\"\n";
    let mut plan = Plan::to(&url).after(route);
    match &confined {
        Some(group) => plan = plan.first(&[], &group.enter()),
        None => println!("no control group can be made here; what is measured has to do"),
    }
    let gateway = plan.start();
    let file = gateway.path("zeros");
    std::fs::File::create(&file).unwrap().set_len(each).unwrap();
    let data = format!("@{}", file.display());
    let chunked = ["--http1.1", "-H", "Transfer-Encoding: chunked", "--data-binary", &data];
    let ways: [&[&str]; 6] = [
        &["--http1.1"],
        &["--http1.1", "-H", "TE: trailers"],
        &["--http2"],
        &["--http1.1", "-T", file.to_str().unwrap(), "-X", "POST"],
        &chunked[..3],
        &["--http2", "-T", file.to_str().unwrap(), "-X", "POST"],
    ];
    let began = Instant::now();
    let clients: Vec<_> = ways
        .iter()
        .chain(&ways)
        .map(|way| {
            let upload = ["-T", file.to_str().unwrap(), "-X", "POST"];
            let more = if way.contains(&"Transfer-Encoding: chunked") { &upload[..] } else { &[] };
            let (format, url) = ("%{http_code} %{size_download}", gateway.url("/large/x"));
            let rest = ["-H", "Expect:", "-o", "/dev/null", "-w", format, &url];
            let mut curl = gateway.curl_command(&[*way, more, &rest].concat());
            curl.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for (n, client) in clients.into_iter().enumerate() {
        let out = client.wait_with_output().unwrap();
        let told = String::from_utf8(out.stdout).unwrap();
        let wanted = if n % 6 < 3 { format!("200 {each}") } else { "200 2".to_owned() };
        assert_eq!(told, wanted, "{:?}", ways[n % 6]);
    }
    let peak = gateway.memory_peak_kib();
    println!("{} MiB in {:?}, {peak} KiB at most", 12 * (each >> 20), began.elapsed());
    assert!(peak * 1024 < LIMIT, "{peak} KiB");
    drop(gateway);
    drop(confined);
}

/// Checks whether this machine allows private mounts.
pub fn can_mount() -> bool {
    let mount = "mount -t tmpfs -o size=64k none /mnt";
    let tried = Command::new("unshare").args(["-m", "sh", "-c", mount]).output();
    let can = tried.is_ok_and(|out| out.status.success());
    if !can {
        println!("nothing can be mounted here, so that this is not tried");
    }
    can
}

/// A gateway with a small disk as one of its folders, and that folder's path as other processes see
/// it.
fn on_a_small_disk(plan: Plan, folder: &str, kib: u32) -> (Gateway, PathBuf) {
    let mount = format!("mkdir -p {folder} && mount -t tmpfs -o size={kib}k none {folder}");
    let gateway = Gateway::prepare(plan.first(&["unshare", "-m"], &mount));
    let path = gateway.path(folder);
    (gateway, path)
}

/// The same path, as the process sees it.
fn seen_by(gateway: &Gateway, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", gateway.pid()));
    root.join(path.strip_prefix("/").unwrap())
}

#[test]
fn a_disk_full_of_access_log_stops_no_request() {
    if !can_mount() {
        return;
    }
    let nginx = Nginx::start();
    let (mut gateway, folder) = on_a_small_disk(Plan::to(&nginx.url()), "logs", 64);
    gateway.write_config(&gateway.config_text().replace("access.log", "logs/access.log"));
    gateway.launch();
    gateway.wait_until_ready();
    let log = seen_by(&gateway, &folder).join("access.log");
    let size = || std::fs::metadata(&log).unwrap().len();
    let mut wire = connect(&gateway);
    let mut some = |count: u32| {
        for n in 0..count {
            wire.send(ask(OPEN, "").as_bytes());
            assert_eq!(wire.read_answer().0, 200, "request {n}");
        }
    };
    eventually("the disk is full", || {
        some(100);
        size() == 64 * 1024
    });
    some(300);
    assert_eq!(gateway.curl(OPEN, &["--http2"]).status, 200);
    std::fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    eventually("it is written on", || {
        some(1);
        size() > 0
    });
    let text = std::fs::read_to_string(&log).unwrap();
    let last = text.trim_end().rsplit('\n').next().unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(last).is_ok(), "{last}");
}

#[test]
fn a_full_state_disk_stops_no_request() {
    if !can_mount() {
        return;
    }
    let (nginx, idp) = (Nginx::start(), Idp::start());
    let (old, new) = (Signer::new(), Signer::new());
    let issuer = "https://idp.example";
    idp.answer("/keys", ok(&key_set(&[&old])));
    let url = idp.url("/keys");
    let section = format!(
        "[[token_issuer]]\nname = \"idp\"\nkind = \"oidc\"\nissuer = \"{issuer}\"\n\
         audiences = [\"mp\"]\ndevice_claim = \"sub\"\nkeys = \"{url}\"\nkey_ca = \"idp.pem\"\n\
         private_hosts = [\"localhost\"]\nkey_refetch_interval = \"1s\"\n"
    );
    let (mut gateway, state) =
        on_a_small_disk(Plan::to(&nginx.url()).after(&section), "state", 2048);
    std::fs::write(gateway.path("idp.pem"), &idp.root).unwrap();
    gateway.launch();
    // The command that exports the root does not see this disk.
    eventually("it is ready", || {
        gateway.get(gateway.metrics, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    let state = seen_by(&gateway, &state);
    std::fs::copy(state.join("authority/root.crt"), gateway.path("root.pem")).unwrap();
    let policy = "/SMS_MP/.sms_pol?x.1_00";
    assert_eq!(gateway.curl_as(&old.token(issuer), policy, &[]).status, 200);
    let kept = || std::fs::read_to_string(state.join("keys/idp.json")).unwrap();
    let kept_before = kept();
    let leaf = || std::fs::read(state.join("authority/leaf/mp01.crt")).unwrap();
    let leaf_before = leaf();
    // No more bytes can be written.
    let filler = state.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    let served = connect(&gateway).leaf();
    // A change that needs another certificate and other keys.
    let hosts = |more: &str| {
        let own = format!("hosts = [\"{}\"", Gateway::HOST);
        gateway.write_config(&gateway.config_text().replace(&own, &format!("{own}, \"{more}\"")));
    };
    hosts("mp02.contoso.com");
    eventually("the new certificate is served", || connect(&gateway).leaf() != served);
    idp.answer("/keys", ok(&key_set(&[&old, &new])));
    eventually("the new key is known", || {
        gateway.curl_as(&new.token(issuer), policy, &[]).status == 200
    });
    for said in ["issued but not written", "cannot be saved for the next start"] {
        eventually(said, || gateway.log().contains(said));
    }
    assert_eq!(gateway.curl_as(&old.token(issuer), policy, &[]).status, 200);
    assert_eq!((kept(), leaf()), (kept_before.clone(), leaf_before.clone()), "the old ones, whole");
    // There is room again: the next files are written.
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    hosts("mp03.contoso.com");
    eventually("the certificate is written", || leaf() != leaf_before);
    let third = Signer::new();
    idp.answer("/keys", ok(&key_set(&[&new, &third])));
    eventually("the next key is known", || {
        gateway.curl_as(&third.token(issuer), policy, &[]).status == 200
    });
    eventually("the keys are kept", || kept() != kept_before);
}

#[test]
fn a_start_on_a_full_disk_says_so_and_serves_once_there_is_room() {
    if !can_mount() {
        return;
    }
    let nginx = Nginx::start();
    let full = "mkdir -p state && mount -t tmpfs -o size=64k none state && \
                { cat /dev/zero > state/filler 2> /dev/null || true; }";
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()).first(&["unshare", "-m"], full));
    gateway.launch();
    eventually("it says that it is not ready", || {
        let told = gateway.get(gateway.metrics, "/readyz");
        told.is_some_and(|(status, text)| status == 503 && text.contains("no certificate is fit"))
    });
    eventually("it says why", || gateway.log().contains("No space left on device"));
    let state = seen_by(&gateway, &gateway.path("state"));
    std::fs::remove_file(state.join("filler")).unwrap();
    eventually("it is ready", || {
        gateway.get(gateway.metrics, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    std::fs::copy(state.join("authority/root.crt"), gateway.path("root.pem")).unwrap();
    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
}

#[test]
fn a_state_that_cannot_be_written_serves_on_after_a_restart() {
    if !can_mount() {
        return;
    }
    let nginx = Nginx::start();
    let bind = "mount --bind state state && mount -o remount,ro,bind state";
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()));
    gateway.launch();
    gateway.wait_until_ready();
    let (leaf, token) = (connect(&gateway).leaf(), gateway.token());
    gateway.kill();
    gateway.relaunch(Plan::to(&nginx.url()).first(&["unshare", "-m"], bind));
    gateway.wait_until_ready();
    assert!(std::fs::write(seen_by(&gateway, &gateway.path("state/x")), "x").is_err());
    assert_eq!(connect(&gateway).leaf(), leaf);
    let answer = gateway.curl_as(&token, "/SMS_MP/.sms_pol?x.1_00", &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// A PKI, and a certificate from it for the gateway.
fn certificate() -> (Pki, Forged) {
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let forged = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    (pki, forged)
}

fn serves_pki(gateway: &Gateway, (pki, forged): &(Pki, Forged)) {
    gateway.write_pki(&forged.chain, &forged.key, pki.root());
    eventually("the PKI certificate is served", || {
        gateway.status()["site_systems"][0]["certificate"]["source"] == "pki"
    });
    let wire = Wire::open(client_config(gateway), gateway.port, Gateway::HOST).unwrap();
    assert!(wire.leaf().len() > 100);
}

#[test]
fn a_certificate_is_seen_despite_an_event_queue_overflow() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let folder = gateway.path("pki");
    let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    // More events than its queue holds arrive while it is stopped.
    gateway.signal("STOP");
    for n in 0..most / 2 {
        std::fs::write(folder.join(format!("other{n}")), "x").unwrap();
    }
    let certificate = certificate();
    gateway.write_pki(&certificate.1.chain, &certificate.1.key, certificate.0.root());
    let began = Instant::now();
    gateway.signal("CONT");
    serves_pki(&gateway, &certificate);
    println!("served {:?} after {most} events and more", began.elapsed());
}

#[test]
fn a_certificate_is_seen_where_the_system_grants_no_events() {
    // A user namespace has its own limits, here of zero.
    let none = "echo 0 > /proc/sys/user/max_inotify_instances";
    let around = &["unshare", "-U", "-r"];
    let tried = Command::new(around[0]).args(&around[1..]).args(["sh", "-c", none]).output();
    if !tried.is_ok_and(|out| out.status.success()) {
        println!("there are no user namespaces here, so that this is not tried");
        return;
    }
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).first(around, none).start();
    eventually("it says so", || gateway.log().contains("inotify does not work here"));
    let began = Instant::now();
    serves_pki(&gateway, &certificate());
    println!("served after {:?}", began.elapsed());
}

#[test]
fn an_unprivileged_service_works_and_protects_its_memory() {
    const USER: u32 = 65_534;
    let drop = format!("setpriv --reuid={USER} --regid={USER} --clear-groups");
    let reach = format!("{drop} {} --version", env!("CARGO_BIN_EXE_sitegate"));
    let reaches = Command::new("sh").args(["-c", &reach]).output();
    if !reaches.is_ok_and(|out| out.status.success()) {
        println!("the program cannot be run as another user here, so that this is not tried");
        return;
    }
    let nginx = Nginx::start();
    // `exec` replaces the shell, so the harness's own command after it never runs.
    let first = format!("chown -R {USER} . && exec {drop} \"$0\" \"$@\"");
    let mut gateway = Gateway::prepare(Plan::to(&nginx.url()).first(&[], &first));
    gateway.launch();
    gateway.wait_until_ready();
    let of = |name: &str| format!("/proc/{}/{name}", gateway.pid());
    let status = std::fs::read_to_string(of("status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t")), "{status}");
    // The /proc files of a process that must not be dumped or traced belong to root.
    assert_eq!(std::fs::metadata(of("environ")).unwrap().uid(), 0);
    let looked = Command::new("sh")
        .args(["-c", &format!("{drop} cat {} {}", of("environ"), of("maps"))])
        .output()
        .unwrap();
    assert!(looked.stdout.is_empty() && !looked.status.success(), "{looked:?}");

    assert_eq!(gateway.curl(OPEN, &[]).status, 200);
    assert!(gateway.metric("process_open_fds") > 3.0);
    // It notices changed files.
    gateway.write_config("not a configuration");
    eventually("the new configuration is found to be none", || {
        gateway.metric("sitegate_config_last_reload_successful") == 0.0
    });
    gateway.write_config(&gateway.config_text());
    // `doctor` finds that the port belongs to the gateway.
    let doctor = gateway.command(&["doctor"]);
    let out = Command::new("sh")
        .args(["-c", &format!("exec {drop} \"$0\" \"$@\"")])
        .arg(doctor.get_program())
        .args(doctor.get_args())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(!told.contains("doctor.port_taken") && !told.contains("not_running"), "{told}");
    assert!(told.contains("doctor."), "{told} {out:?}");
}
