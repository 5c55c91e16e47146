//! A gateway process, and curl as its client.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::{eventually, free_port};

pub const BINARY: &str = env!("CARGO_BIN_EXE_sitegate");

/// The simulator's program. Cargo names the programs of a test's own package only; this one lies
/// beside sitegate.
pub fn lab() -> PathBuf {
    let program = Path::new(BINARY).with_file_name("sitegate-lab");
    assert!(program.is_file(), "there is no {}: run 'cargo build' first", program.display());
    program
}

/// The settings of a gateway.
pub struct Plan {
    /// The URL of the site system's backend.
    pub backend: String,
    /// More keys of the site system.
    pub site_system: String,
    /// More keys of `[site]`.
    pub site: String,
    /// More sections of the file, before the site system.
    pub sections: String,
    /// Roles of the site system.
    pub roles: &'static str,
    /// Sections after the site system.
    pub after: String,
    /// Environment of the process.
    pub env: Vec<(String, String)>,
    /// Commands for a shell, whose place the process then takes. They run in the gateway's
    /// directory.
    pub first: String,
    /// The program that runs that shell, if any.
    pub within: &'static [&'static str],
}

impl Plan {
    pub fn to(backend: &str) -> Plan {
        Plan {
            backend: backend.to_owned(),
            site_system: String::new(),
            site: String::new(),
            sections: String::new(),
            roles: r#"["management-point", "distribution-point"]"#,
            after: String::new(),
            env: Vec::new(),
            first: String::new(),
            within: &[],
        }
    }

    /// Runs commands in a shell before the process takes its place.
    pub fn first(mut self, within: &'static [&'static str], what: &str) -> Plan {
        self.first = what.to_owned();
        self.within = within;
        self
    }

    pub fn site_system(mut self, keys: &str) -> Plan {
        self.site_system = format!("{}\n{keys}", self.site_system);
        self
    }

    pub fn site(mut self, keys: &str) -> Plan {
        self.site = format!("{}\n{keys}", self.site);
        self
    }

    /// Without message inspection, for tests that send other bodies with the message method.
    pub fn unguarded(self) -> Plan {
        self.site_system("message_guard = \"off\"")
    }

    pub fn sections(mut self, text: &str) -> Plan {
        self.sections = format!("{}\n{text}", self.sections);
        self
    }

    pub fn after(mut self, text: &str) -> Plan {
        self.after = format!("{}\n{text}", self.after);
        self
    }

    pub fn start(self) -> Gateway {
        let mut gateway = Gateway::prepare(self);
        gateway.launch();
        gateway.wait_until_ready();
        gateway
    }
}

pub struct Gateway {
    pub port: u16,
    pub admin: u16,
    pub metrics: u16,
    pub dir: tempfile::TempDir,
    plan: Plan,
    child: Option<Child>,
}

/// The response that curl received.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and fields of the final response.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Gateway {
    pub const HOST: &'static str = "mp01.contoso.com";

    pub fn prepare(plan: Plan) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let (port, admin, metrics) = (free_port(), free_port(), free_port());
        std::fs::create_dir(dir.path().join("pki")).unwrap();
        let gateway = Gateway { port, admin, metrics, dir, plan, child: None };
        gateway.write_config(&gateway.config_text());
        gateway
    }

    pub fn config_text(&self) -> String {
        let Plan { backend, site_system, site, sections, roles, after, .. } = &self.plan;
        format!(
            r#"[site]
code = "PS1"
hierarchy = "cdcc5e91-0000-4000-8000-000000000000"
state = "state"
domains = ["contoso.com"]
{site}
[admin]
listen = "127.0.0.1:{admin}"
[metrics]
listen = "127.0.0.1:{metrics}"
[log]
access = "access.log"
{sections}
[[site_system]]
name = "mp01"
roles = {roles}
listen = "127.0.0.1:{port}"
hosts = ["{host}"]
backend = "{backend}"
pki = "pki"
{site_system}
{after}
"#,
            host = Gateway::HOST,
            admin = self.admin,
            metrics = self.metrics,
            port = self.port,
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces the configuration file, as an editor does.
    pub fn write_config(&self, text: &str) {
        let new = self.path("gateway.toml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path("gateway.toml")).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).arg("--config").arg(self.path("gateway.toml"));
        command
    }

    pub fn launch(&mut self) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let run = self.command(&["run"]);
        let mut command = match self.plan.first.as_str() {
            "" => run,
            first => {
                let script = format!("{first} && exec \"$0\" \"$@\"");
                let around = [self.plan.within, &["sh", "-c", &script]].concat();
                let mut command = Command::new(around[0]);
                command.args(&around[1..]).arg(run.get_program()).args(run.get_args());
                command
            }
        };
        command.current_dir(self.dir.path());
        command.envs(self.plan.env.clone()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Restarts it with another plan; its configuration file stays.
    pub fn relaunch(&mut self, plan: Plan) {
        self.plan = plan;
        self.launch();
    }

    pub fn wait_until_ready(&mut self) {
        let address = format!("127.0.0.1:{}", self.metrics);
        let mut last = None;
        eventually("the gateway is ready", || {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().unwrap()) {
                panic!("the gateway ended with {status}: {}", self.log());
            }
            last = http_get(&address, "/readyz").ok();
            last.as_ref().is_some_and(|(status, _)| *status == 200)
        });
        std::fs::write(self.path("root.pem"), self.export_root()).unwrap();
    }

    pub fn export_root(&self) -> Vec<u8> {
        self.command(&["site", "export-root"]).output().unwrap().stdout
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// The number of open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Processor time used by the process, in hundredths of a second.
    pub fn processor_time(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after = stat.rsplit(") ").next().unwrap();
        after.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum()
    }

    /// Changes a limit of the process, in the syntax of `prlimit`.
    pub fn limit(&self, what: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, what]).status().unwrap().success());
    }

    /// The number of its metric series.
    pub fn series(&self) -> usize {
        let (_, text) = self.get(self.metrics, "/metrics").unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for the process to end. Returns its exit code.
    pub fn wait(&mut self) -> i32 {
        let status = self.child.take().unwrap().wait().unwrap();
        status.code().unwrap_or(-1)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log has this text: another thread writes it than the one that answers.
    pub fn assert_logged(&self, text: &str) {
        eventually(&format!("the log says: {text}"), || self.log().contains(text));
    }

    /// The access log, a JSON object for each line.
    pub fn access(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path("access.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The peak resident memory, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn metric(&self, prefix: &str) -> f64 {
        let (_, text) = http_get(&format!("127.0.0.1:{}", self.metrics), "/metrics").unwrap();
        text.lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    pub fn get(&self, port: u16, path: &str) -> Option<(u16, String)> {
        http_get(&format!("127.0.0.1:{port}"), path).ok()
    }

    pub fn status(&self) -> serde_json::Value {
        let (code, body) = self.get(self.admin, "/api/v1/status").unwrap();
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A client token of [`super::DEVICE`], from the command line.
    pub fn token(&self) -> String {
        self.issue(&["--device", super::DEVICE])
    }

    pub fn issue(&self, args: &[&str]) -> String {
        let out = self.command(&[&["token", "issue"], args].concat()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", Gateway::HOST, self.port)
    }

    pub fn curl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("curl");
        let resolve = format!("{}:{}:127.0.0.1", Gateway::HOST, self.port);
        command.args(["-sS", "--max-time", "120", "--resolve", &resolve, "--cacert"]);
        command.arg(self.path("root.pem")).args(args);
        command
    }

    /// Sends a request with curl; `args` besides the URL.
    pub fn curl(&self, path: &str, args: &[&str]) -> Answer {
        let url = self.url(path);
        let out =
            self.curl_command(&[&["-D", "-", "--path-as-is"], args, &[&url]].concat()).output();
        answer(&out.unwrap())
    }

    /// Sends a request with a client token.
    pub fn curl_as(&self, token: &str, path: &str, args: &[&str]) -> Answer {
        let header = format!("Authorization: Bearer {token}");
        self.curl(path, &[&["-H", &header], args].concat())
    }

    /// Writes a pair where directories or pipes may stand in place of files.
    pub fn write_pki_after_mess(&self, chain: &str, key: &str, root: &str) {
        for name in ["tls.crt", "tls.key"] {
            let path = self.path("pki").join(name);
            if path.is_dir() {
                std::fs::remove_dir(&path).unwrap();
            }
        }
        self.write_pki(chain, key, root);
    }

    /// Writes a pair into the PKI folder, as certificate tools do: each file renamed into place.
    pub fn write_pki(&self, chain: &str, key: &str, root: &str) {
        write_pair(&self.path("pki"), chain, key, root);
    }
}

/// Replaces a folder's files one after another, each atomically.
pub fn write_pair(dir: &Path, chain: &str, key: &str, root: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    for (name, text) in [("ca.crt", root), ("tls.key", key), ("tls.crt", chain)] {
        let new = dir.join(format!(".{name}.new"));
        let mut open = std::fs::OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(&new).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::fs::rename(new, dir.join(name)).unwrap();
    }
}

fn answer(out: &Output) -> Answer {
    let raw = &out.stdout;
    let mut rest: &[u8] = raw;
    let mut head = String::new();
    // Interim responses come first; the last head is the final one.
    while rest.starts_with(b"HTTP/") {
        let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") else { break };
        head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
    }
    Answer {
        status: head.split(' ').nth(1).and_then(|s| s.trim().parse().ok()).unwrap_or(0),
        head,
        body: rest.to_vec(),
    }
}

fn http_get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let malformed = || std::io::Error::other(format!("no response: {text}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(malformed)?, body.to_owned()))
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        }
    }
}
