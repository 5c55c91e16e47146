//! Common servers, each with the same few files and an unmodified configuration.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use super::{eventually, free_port, write_pattern};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Apache,
    Lighttpd,
    Tomcat,
    Node,
    /// Python's `http.server`, which speaks HTTP/1.0.
    Python,
}

/// A server with `/any/small.txt` and `/any/large.bin`, of 3 MiB.
pub struct Server {
    port: u16,
    child: Child,
    _dir: tempfile::TempDir,
}

/// Serves files as the others do, and echoes the body of `/any/echo` as it arrives.
const NODE: &str = r#"
const [port, root] = process.argv.slice(-2), fs = require("fs");
require("http").createServer((request, response) => {
  const path = request.url.split("?")[0];
  if (path == "/any/echo") return request.pipe(response);
  if (!["GET", "HEAD"].includes(request.method)) {
    response.writeHead(405, { Allow: "GET, HEAD" });
    return response.end("405\n");
  }
  fs.readFile(root + path, (error, data) => {
    if (error) { response.statusCode = 404; return response.end("404\n"); }
    response.writeEarlyHints({ link: "</x>; rel=preload" });
    response.setHeader("X-Length", data.length);
    response.write(data.subarray(0, 5));
    response.end(data.subarray(5));
  });
}).listen(port, "127.0.0.1");
"#;

impl Server {
    pub fn start(kind: Kind) -> Server {
        let dir = tempfile::tempdir().unwrap();
        // The workers of some run as another user if the first process is root.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let (at, port) = (dir.path().display(), free_port());
        let www = dir.path().join("www");
        std::fs::create_dir_all(www.join("any")).unwrap();
        std::fs::write(www.join("any/small.txt"), "small\n").unwrap();
        write_pattern(&www.join("any/large.bin"), 3);
        // Apache's entity tags are weak for a second after a change.
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for name in ["small.txt", "large.bin"] {
            let file = std::fs::File::options().append(true).open(www.join("any").join(name));
            file.unwrap().set_modified(long_ago).unwrap();
        }
        let config = dir.path().join("config");
        let mut command = match kind {
            Kind::Nginx => {
                let text = format!(
                    "daemon off; pid {at}/pid; error_log {at}/error.log; events {{}}\n\
                     http {{ access_log off; client_body_temp_path {at}/temp; server {{ listen \
                     127.0.0.1:{port}; root {at}/www; client_max_body_size 1k; }} }}\n"
                );
                std::fs::write(&config, text).unwrap();
                let mut command = Command::new("/usr/sbin/nginx");
                command.arg("-c").arg(&config);
                command
            }
            Kind::Apache => {
                let modules: String = ["mpm_event", "authz_core", "mime"]
                    .map(|m| format!("LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n"))
                    .concat();
                let text = format!(
                    "ServerRoot {at}\nServerName localhost\nPidFile {at}/pid\nListen 127.0.0.1:{port}\n\
                     {modules}TypesConfig /etc/mime.types\nErrorLog {at}/error.log\n\
                     DocumentRoot {at}/www\n"
                );
                std::fs::write(&config, text).unwrap();
                let mut command = Command::new("/usr/sbin/apache2");
                command.args(["-DFOREGROUND", "-f"]).arg(&config);
                command
            }
            Kind::Lighttpd => {
                let text = format!(
                    "server.document-root = \"{at}/www\"\nserver.port = {port}\n\
                     server.bind = \"127.0.0.1\"\nmimetype.assign = (\".txt\" => \"text/plain\")\n"
                );
                std::fs::write(&config, text).unwrap();
                let mut command = Command::new("/usr/sbin/lighttpd");
                command.arg("-D").arg("-f").arg(&config);
                command
            }
            Kind::Tomcat => {
                std::fs::create_dir_all(dir.path().join("conf")).unwrap();
                std::fs::create_dir_all(dir.path().join("temp")).unwrap();
                std::fs::create_dir_all(www.join("WEB-INF")).unwrap();
                std::fs::write(www.join("WEB-INF/web.xml"), TOMCAT_WEB).unwrap();
                let text = format!(
                    "<Server port=\"-1\"><Service name=\"Catalina\">\
                     <Connector address=\"127.0.0.1\" port=\"{port}\"/>\
                     <Engine name=\"Catalina\" defaultHost=\"any\"><Host name=\"any\" \
                     appBase=\"none\"><Context path=\"\" docBase=\"{at}/www\"/></Host></Engine>\
                     </Service></Server>"
                );
                std::fs::write(dir.path().join("conf/server.xml"), text).unwrap();
                let bin = "/usr/share/tomcat10/bin";
                let mut command = Command::new("java");
                command
                    .args(["-cp", &format!("{bin}/bootstrap.jar:{bin}/tomcat-juli.jar")])
                    .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
                    .arg("-Dcatalina.home=/usr/share/tomcat10")
                    .arg(format!("-Dcatalina.base={at}"))
                    .arg(format!("-Djava.io.tmpdir={at}/temp"))
                    .args(["org.apache.catalina.startup.Bootstrap", "start"]);
                command
            }
            Kind::Node => {
                let mut command = Command::new("node");
                command.args(["-e", NODE, &port.to_string()]).arg(&www);
                command
            }
            Kind::Python => {
                let mut command = Command::new("python3");
                command.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]);
                command.arg(&www).arg(port.to_string());
                command
            }
        };
        let said = std::fs::File::create(dir.path().join("said")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?}: {error}; 'make setup' installs it"));
        let server = Server { port, child, _dir: dir };
        eventually("the server listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

const TOMCAT_WEB: &str = r#"<web-app version="5.0"><servlet><servlet-name>default</servlet-name>
<servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class></servlet>
<servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
<mime-mapping><extension>txt</extension><mime-type>text/plain</mime-type></mime-mapping>
</web-app>"#;

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id();
        let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        let _ = self.child.wait();
    }
}
