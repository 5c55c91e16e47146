//! The whole program on loopback: the processor time per unit of each kind of work. `make release`
//! trains the profile-guided build with the same work.
//!
//! `cargo bench --bench loopback -- [--program FILE] [--seconds N]`

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench that cannot be set up shall stop, and says what it measured"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sitegate_lab::SimulatedBackend;

const HOST: &str = "mp01.contoso.com";
const DEVICE: &str = "GUID:5E1C0DE0-1111-4222-8333-444455556666";
const TOKENS: usize = 50;
const MIB: usize = 1 << 20;

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut program, mut seconds) = (PathBuf::from(env!("CARGO_BIN_EXE_sitegate")), 2.0);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--program" => program = args.next().unwrap().into(),
            "--seconds" => seconds = args.next().unwrap().parse().unwrap(),
            _ => {}
        }
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stage = Stage::start(&program);
    let run = |what: &str, unit: &str, per: f64, work: &mut dyn FnMut()| {
        let (busy, began, mut units) = (stage.busy(), Instant::now(), 0.0);
        while began.elapsed() < Duration::from_secs_f64(seconds) {
            work();
            units += per;
        }
        let each = (stage.busy() - busy).as_secs_f64() * 1e6 / units;
        println!("{what:<44} {each:>12.1} µs of processor time per {unit}");
    };

    let token = &stage.tokens[0];
    let mut kept = stage.connect();
    let poll = get("/SMS_MP_TokenAuth/.sms_pol?id", Some(token));
    run("kept connection, one token", "request", 50.0, &mut || {
        (0..50).for_each(|_| assert_eq!(exchange(&mut kept, &poll).0, 200));
    });
    let polls: Vec<_> =
        stage.tokens.iter().map(|t| get("/SMS_MP_TokenAuth/.sms_pol?id", Some(t))).collect();
    run("kept connection, tokens in turn", "request", TOKENS as f64, &mut || {
        polls.iter().for_each(|poll| assert_eq!(exchange(&mut kept, poll).0, 200));
    });
    let open = get("/SMS_MP/.sms_aut?MPLIST", None);
    run("kept connection, no token", "request", 50.0, &mut || {
        (0..50).for_each(|_| assert_eq!(exchange(&mut kept, &open).0, 200));
    });
    let message = post("/ccm_system_tokenauth/request", token, 4096);
    run("message of 4 KiB", "request", 20.0, &mut || {
        (0..20).for_each(|_| assert_eq!(exchange(&mut kept, &message).0, 200));
    });
    let denied = get("/SMS_MP_TokenAuth/.sms_pol?id", None);
    run("refused for want of a token", "request", 20.0, &mut || {
        (0..20).for_each(|_| assert_eq!(exchange(&mut kept, &denied).0, 401));
    });
    run("handshake, resumed", "connection", 10.0, &mut || {
        (0..10).for_each(|_| assert_eq!(exchange(&mut stage.connect(), &poll).0, 200));
    });
    run("handshake, full", "connection", 10.0, &mut || {
        (0..10).for_each(|_| assert_eq!(exchange(&mut stage.connect_anew(), &poll).0, 200));
    });
    let path = "/CCMTOKENAUTH_SMS_DP_SMSPKG$/PS100001/67108864.bin";
    let whole = get(path, Some(token));
    run("download", "MiB", 64.0, &mut || {
        assert_eq!(exchange(&mut kept, &whole), (200, 64 * MIB));
    });
    run("download in ranges of 2 MiB", "MiB", 64.0, &mut || {
        for n in 0..32 {
            let range = format!("Range: bytes={}-{}\r\n\r\n", n * 2 * MIB, (n + 1) * 2 * MIB - 1);
            let part = String::from_utf8(whole.clone()).unwrap();
            let part = part.strip_suffix("\r\n").unwrap().to_owned() + &range;
            assert_eq!(exchange(&mut kept, part.as_bytes()), (206, 2 * MIB));
        }
    });
    let upload = post("/ccm_system_tokenauth/request", token, 4 * MIB);
    run("upload", "MiB", 4.0, &mut || {
        assert_eq!(exchange(&mut kept, &upload).0, 200);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut h2 = runtime.block_on(stage.connect_h2());
    run("HTTP/2, one token", "request", 50.0, &mut || {
        let ask = || {
            http::Request::get(format!("https://{HOST}/SMS_MP_TokenAuth/.sms_pol?id"))
                .header("Authorization", format!("Bearer {token}"))
                .body(Full::<Bytes>::default())
                .unwrap()
        };
        runtime.block_on(async {
            for _ in 0..50 {
                h2.ready().await.unwrap();
                let answer = h2.send_request(ask()).await.unwrap();
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.unwrap();
            }
        });
    });
    drop(h2);
}

fn get(target: &str, token: Option<&String>) -> Vec<u8> {
    let token = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let agent = "User-Agent: SMS CCM 5.0\r\nAccept: */*\r\n";
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{agent}{token}\r\n").into_bytes()
}

fn post(target: &str, token: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "CCM_POST {target} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: ccmhttp\r\n\
         Content-Type: multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut body = b"--aAbBcCdDv1234567890VxXyYzZ\r\n\r\n".to_vec();
    let envelope = "<Msg><TargetEndpoint>MP_HinvEndpoint</TargetEndpoint></Msg>";
    body.extend(envelope.encode_utf16().flat_map(u16::to_le_bytes));
    body.extend_from_slice(b"\r\n--aAbBcCdDv1234567890VxXyYzZ\r\n\r\n");
    body.resize(length, b'x');
    [head.into_bytes(), body].concat()
}

/// Sends a request and reads its response. Returns the status, and the length of the body.
fn exchange(tls: &mut Tls, request: &[u8]) -> (u16, usize) {
    tls.write_all(request).unwrap();
    let (mut buffer, mut have) = (vec![0; 64 * 1024], 0);
    let head = loop {
        have += tls.read(&mut buffer[have..]).unwrap();
        if let Some(end) = buffer[..have].windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = text.split_once("content-length: ").unwrap().1.split("\r\n").next().unwrap();
    let length: usize = length.parse().unwrap();
    let mut left = length - (have - head);
    while left > 0 {
        left -= tls.read(&mut buffer).unwrap();
    }
    (text[9..12].parse().unwrap(), length)
}

/// The program with a backend behind it.
struct Stage {
    program: Child,
    address: SocketAddr,
    client: Arc<ClientConfig>,
    roots: RootCertStore,
    tokens: Vec<String>,
    _backend: SimulatedBackend,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn start(program: &Path) -> Self {
        let backend = SimulatedBackend::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = port();
        let text = format!(
            "[site]\ncode = \"PS1\"\nstate = \"state\"\n[admin]\nlisten = \"{}\"\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\nlevel = \"error\"\n\
             [[site_system]]\nname = \"mp01\"\nroles = [\"management-point\", \
             \"distribution-point\"]\nlisten = \"{address}\"\nhosts = [\"{HOST}\"]\n\
             backend = \"http://{}\"\n",
            port(),
            backend.address()
        );
        let config = dir.path().join("gateway.toml");
        std::fs::write(&config, text).unwrap();
        let run = Command::new(program).arg("run").arg("--config").arg(&config).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "the program does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let token = || {
            let mut issue = Command::new(program);
            issue.args(["token", "issue", "--kind", "client", "--device", DEVICE, "--config"]);
            let issued = issue.arg(&config).output().unwrap();
            assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
            String::from_utf8(issued.stdout).unwrap().trim().to_owned()
        };
        let tokens = (0..TOKENS).map(|_| token()).collect();
        let root = std::fs::read(dir.path().join("state/authority/root.crt")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&root).unwrap()).unwrap();
        let client = Arc::new(trusting(&roots, b"http/1.1"));
        Stage { program: run, address, client, roots, tokens, _backend: backend, _dir: dir }
    }

    /// Opens a connection that resumes an earlier session if there was one.
    fn connect(&self) -> Tls {
        self.open(self.client.clone())
    }

    fn connect_anew(&self) -> Tls {
        self.open(Arc::new(trusting(&self.roots, b"http/1.1")))
    }

    fn open(&self, config: Arc<ClientConfig>) -> Tls {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        StreamOwned::new(ClientConnection::new(config, HOST.try_into().unwrap()).unwrap(), tcp)
    }

    async fn connect_h2(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting(&self.roots, b"h2")));
        let tls = connector.connect(HOST.try_into().unwrap(), tcp).await.unwrap();
        let io = TokioIo::new(tls);
        let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (send, connection) = made.unwrap();
        tokio::spawn(connection);
        send
    }

    /// The processor time used by the program.
    fn busy(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.program.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // As an administrator would end it: it drains, and a training build writes its profile.
        let pid = rustix::process::Pid::from_child(&self.program);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.program.wait();
    }
}

fn trusting(roots: &RootCertStore, alpn: &[u8]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}
