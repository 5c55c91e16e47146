//! Debian's nginx as an unmodified site system. Its access log shows the requests that reached it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{eventually, free_port};

const DAV: &str = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so";

/// A request to nginx itself that marks the position in its log.
const MARK: &str = "/--up-to-here--";

pub struct Nginx {
    pub port: u16,
    dir: tempfile::TempDir,
    child: Child,
}

impl Nginx {
    pub fn start() -> Nginx {
        Nginx::with("", "")
    }

    /// `listen` is added to the listen line (with the TLS settings), `locations` to the server.
    pub fn with(listen: &str, locations: &str) -> Nginx {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let root = dir.path().join("www");
        std::fs::create_dir_all(root.join("SMS_DP_SMSPKG$/PS100001")).unwrap();
        std::fs::create_dir_all(root.join("CCM_Client")).unwrap();
        std::fs::write(root.join("CCM_Client/ccmsetup.cab"), "cabinet").unwrap();
        std::fs::write(root.join("SMS_DP_SMSPKG$/PS100001/small.txt"), "0123456789").unwrap();
        let at = dir.path().display();
        // Everyone may read: if the master runs as root, the workers are another user.
        make_readable(dir.path());
        let config = format!(
            r#"worker_processes 1; daemon off; user root; pid {at}/pid; error_log {at}/error.log;
load_module {DAV};
events {{ worker_connections 4096; }}
http {{
  log_format line '$request_method $request_uri $status d=$http_sitegate_device a=$http_authorization xff=$http_x_forwarded_for xfp=$http_x_forwarded_proto c=$http_connection te=$http_transfer_encoding cl=$http_content_length h=$http_host u=$http_user_agent';
  access_log {at}/access.log line; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
  fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
  default_type application/octet-stream; client_max_body_size 0; keepalive_timeout 300s;
  server {{
    listen 127.0.0.1:{port} backlog=4096{listen}; root {root};
    location / {{ dav_methods PUT; dav_ext_methods PROPFIND OPTIONS; }}
    location ~* ^/SMS_MP/ {{ return 200 "mp\n"; }}
    location ~* ^/CMUserService/ {{ return 200 "user\n"; }}
    {locations}
  }}
}}
"#,
            root = root.display()
        );
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let child = launch(dir.path());
        let nginx = Nginx { port, dir, child };
        nginx.wait_until_it_listens();
        nginx
    }

    fn wait_until_it_listens(&self) {
        let address = ("127.0.0.1", self.port);
        eventually("nginx listens", || std::net::TcpStream::connect(address).is_ok());
    }

    /// Stops it, runs `meanwhile`, and starts it again at the same place.
    pub fn restart(&mut self, meanwhile: impl FnOnce()) {
        self.end();
        meanwhile();
        self.child = launch(self.dir.path());
        self.wait_until_it_listens();
    }

    fn end(&mut self) {
        let pid = self.child.id();
        let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        let _ = self.child.wait();
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The served folder, for more files.
    pub fn content(&self) -> PathBuf {
        self.dir.path().join("www/SMS_DP_SMSPKG$/PS100001")
    }

    /// The requests that reached the backend, a line each.
    pub fn seen(&self) -> Vec<String> {
        self.log().into_iter().filter(|line| !line.contains(MARK)).collect()
    }

    fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Checks that exactly this many requests have reached the backend.
    pub fn assert_seen(&self, count: usize) {
        // A line is written a moment after the response. The line of a later request shows that all
        // earlier ones are written.
        eventually("the backend's log is written", || self.seen().len() >= count);
        let marks = || self.log().iter().filter(|line| line.contains(MARK)).count();
        let before = marks();
        if let Ok(mut mark) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = mark.write_all(format!("GET {MARK} HTTP/1.0\r\n\r\n").as_bytes());
            let _ = mark.read_to_end(&mut Vec::new());
            eventually("the mark is in the log", || marks() > before);
        }
        let seen = self.seen();
        assert_eq!(seen.len(), count, "the backend saw {seen:#?}");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.end();
    }
}

fn launch(dir: &Path) -> Child {
    Command::new("/usr/sbin/nginx")
        .args(["-e", &format!("{}/error.log", dir.display()), "-c"])
        .arg(dir.join("nginx.conf"))
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx is installed by 'make setup'")
}

fn make_readable(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}
