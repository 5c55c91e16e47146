//! A PostgreSQL server for one test, on a unix socket in a temporary folder. It ends with the test,
//! even if that panics.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// PostgreSQL does not run as root; root runs it as this user.
const USER: (&str, u32) = ("nobody", 65534);

pub struct Postgres {
    dir: tempfile::TempDir,
    programs: PathBuf,
    durable: bool,
    settings: Vec<String>,
    child: Option<Child>,
}

impl Postgres {
    /// A server with an empty database and no durability.
    pub fn start() -> Postgres {
        Postgres::new(false)
    }

    /// A server that syncs confirmed data to disk.
    pub fn durable() -> Postgres {
        Postgres::new(true)
    }

    fn new(durable: bool) -> Postgres {
        let programs = programs();
        let dir = tempfile::tempdir().unwrap();
        own(dir.path());
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        own(&data);
        copy(&template(&programs), &data);
        let mut server = Postgres { dir, programs, durable, settings: Vec::new(), child: None };
        server.resume();
        server
    }

    /// The URL of the server's database, for a superuser.
    pub fn url(&self) -> String {
        format!("postgres://sitegate@localhost/postgres?host={}", self.dir.path().display())
    }

    /// Runs one of its programs.
    pub fn run(&self, program: &str, args: &[&str]) {
        let done = Command::new(self.programs.join(program)).args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Starts it again at the same place.
    pub fn resume(&mut self) {
        let mut command = as_user(&self.programs.join("postgres"));
        command.arg("-D").arg(self.dir.path().join("data")).arg("-k").arg(self.dir.path());
        command.args(["-c", "listen_addresses=", "-c", "shared_buffers=16MB"]);
        if !self.durable {
            command.args(["-c", "fsync=off"]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("PostgreSQL is installed by 'make setup'"));
        let deadline = Instant::now() + Duration::from_secs(60);
        let ready = || {
            // It refuses connections during recovery; the file says when it accepts them.
            let pid = std::fs::read_to_string(self.dir.path().join("data/postmaster.pid"));
            pid.is_ok_and(|text| text.lines().nth(7).is_some_and(|word| word.trim() == "ready"))
        };
        while !ready() {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(".s.PGSQL.5432")
    }

    /// The same for another role or database.
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        let dir = self.dir.path().display();
        format!("postgres://{user}:{password}@localhost/{database}?host={dir}")
    }

    /// Starts it again with one more setting.
    pub fn resume_with(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
        self.resume();
    }

    /// Requires passwords on the socket, from the next start on.
    pub fn ask_for_passwords(&self) {
        let file = self.dir.path().join("data/pg_hba.conf");
        std::fs::write(file, "local all all scram-sha-256\n").unwrap();
    }

    /// Freezes it: it accepts connections and does not answer, as on a disk that hangs.
    pub fn freeze(&self) {
        self.tell_all("-STOP");
    }

    /// Resumes it.
    pub fn thaw(&self) {
        self.tell_all("-CONT");
    }

    fn tell_all(&self, signal: &str) {
        let Some(child) = &self.child else { return };
        let id = child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        let all = std::iter::once(id.to_string()).chain(children.split(' ').map(str::to_owned));
        let all = all.filter(|id| !id.is_empty());
        let _ = Command::new("kill").arg(signal).args(all).status();
    }

    /// Stops it in good order; connections are cut.
    pub fn stop(&mut self) {
        self.end("-INT");
    }

    /// Stops it as a crash does: confirmed data is only in its log.
    pub fn crash(&mut self) {
        self.end("-QUIT");
    }

    fn end(&mut self, signal: &str) {
        self.thaw();
        let Some(mut child) = self.child.take() else { return };
        let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
        let _ = child.wait();
        let _ = std::fs::remove_file(self.dir.path().join("data/postmaster.pid"));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end("-QUIT");
    }
}

/// The folder of Debian's server programs, which is not in a user's PATH; the newest first.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("initdb").exists().then_some((version, bin))
        })
        .collect();
    found.sort();
    let elsewhere = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(|dir| dir.join("initdb").exists())
    };
    found.pop().map(|(_, bin)| bin).or_else(elsewhere).expect("'make setup' installs postgresql")
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// A program as the server's user. It ends with the thread that started it.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        let id = USER.1.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

fn own(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(dir, Some(USER.1), Some(USER.1)).unwrap();
    }
}

/// A new cluster takes a second, a copy a tenth: it is created once, and all tests copy it.
fn template(programs: &Path) -> PathBuf {
    let version = Command::new(programs.join("postgres")).arg("--version").output().unwrap();
    let version: String = String::from_utf8_lossy(&version.stdout)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    let user = if is_root() { USER.0 } else { "own" };
    let ready = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{version}-{user}"));
    if ready.exists() {
        return ready;
    }
    let dir = tempfile::tempdir().unwrap();
    own(dir.path());
    let made = as_user(&programs.join("initdb"))
        .arg("-D")
        .arg(dir.path().join("data"))
        .args(["-U", "sitegate", "--no-sync", "--auth=trust", "--locale=C", "--encoding=UTF8"])
        .output()
        .expect("setpriv is part of every Linux");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    let beside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copied = beside.path().join("data");
    std::fs::create_dir(&copied).unwrap();
    copy(&dir.path().join("data"), &copied);
    // Another test may have been faster; its cluster serves too.
    let _ = std::fs::rename(&copied, &ready);
    ready
}

/// Copies the content of a folder, with owners and modes.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}
