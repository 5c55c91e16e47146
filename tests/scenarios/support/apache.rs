//! Debian's Apache as an unmodified site system: WebDAV below `/dav/`, and Windows authentication
//! by NTLM below `/reports/`, for one account.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::{eventually, free_port};

const MODULES: [&str; 9] = [
    "mpm_event",
    "authn_core",
    "authz_core",
    "authz_user",
    "auth_gssapi",
    "dav",
    "dav_fs",
    "alias",
    "mime",
];

pub struct Apache {
    port: u16,
    dir: tempfile::TempDir,
    child: Child,
}

impl Apache {
    /// The account that may read below `/reports/`.
    pub const USER: &'static str = "CONTOSO\\alice";
    pub const PASSWORD: &'static str = "correct horse";

    pub fn start() -> Apache {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = dir.path().display();
        for folder in ["www/reports", "dav"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("www/reports/sales.txt"), "sales\n").unwrap();
        std::fs::write(dir.path().join("users"), "CONTOSO:alice:correct horse\n").unwrap();
        // If the master runs as root, the workers are another user.
        let all = std::fs::Permissions::from_mode(0o777);
        for open in ["", "dav"] {
            std::fs::set_permissions(dir.path().join(open), all.clone()).unwrap();
        }
        let modules: String = MODULES
            .iter()
            .map(|m| format!("LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n"))
            .collect();
        let config = format!(
            "ServerRoot {at}\nServerName mp01.contoso.com\nPidFile {at}/pid\n\
             Listen 127.0.0.1:{port}\n{modules}TypesConfig /etc/mime.types\n\
             User www-data\nGroup www-data\nErrorLog {at}/error.log\nDocumentRoot {at}/www\n\
             LogFormat \"%m %U %>s u=%u\" line\nCustomLog {at}/access.log line\n\
             DavLockDB {at}/lock\nKeepAlive On\nMaxKeepAliveRequests 0\n\
             <Directory {at}>\nRequire all granted\n</Directory>\n\
             Alias /dav {at}/dav\n<Location /dav>\nDav On\n</Location>\n\
             <Location /reports>\nAuthType GSSAPI\nAuthName reports\nGssapiAllowedMech ntlmssp\n\
             GssapiConnectionBound On\nGssapiSSLonly Off\nRequire valid-user\n</Location>\n"
        );
        let path = dir.path().join("httpd.conf");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("/usr/sbin/apache2")
            .args(["-DFOREGROUND", "-f"])
            .arg(&path)
            .env("NTLM_USER_FILE", dir.path().join("users"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("apache2 is installed by 'make setup'");
        let apache = Apache { port, dir, child };
        let address = ("127.0.0.1", port);
        eventually("Apache listens", || std::net::TcpStream::connect(address).is_ok());
        apache
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests that reached it, a line each: method, path, status and user.
    pub fn seen(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        let pid = self.child.id();
        let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        let _ = self.child.wait();
    }
}
