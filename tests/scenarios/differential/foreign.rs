//! Foreign clients run some of the cases too: curl, nghttp, and Python's httpx.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::case::{Case, Upload};
use super::client::{End, Fields, Seen, Way, fields};
use crate::support::{Gateway, python};

/// The END_STREAM flag of a frame (RFC 9113 §6.1).
const END_STREAM: u8 = 1;

/// Reads a request per line of JSON, and answers with a line of JSON: the response that httpx
/// received.
const HTTPX: &str = r#"
import base64, json, ssl, sys
import httpx
trust = ssl.create_default_context(cafile=sys.argv[1])
clients = {two: httpx.Client(verify=trust, http1=not two, http2=two, timeout=60) for two in (False, True)}
for line in sys.stdin:
    asked = json.loads(line)
    body = base64.b64decode(asked["body"]) if asked["body"] is not None else None
    content = iter([body]) if asked["chunked"] else body
    request = httpx.Request(
        asked["method"], asked["url"], content=content, extensions={"sni_hostname": asked["host"]},
        headers=[("Host", asked["host"])] + asked["fields"])
    said = {"status": 0, "fields": [], "whole": False}
    got = b""
    try:
        response = clients[asked["http2"]].send(request, stream=True)
        said["status"] = response.status_code
        said["fields"] = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in response.headers.raw]
        assert response.http_version == ("HTTP/2" if asked["http2"] else "HTTP/1.1")
        for piece in response.iter_raw():
            got += piece
        said["whole"] = True
        response.close()
    except httpx.TransportError as error:
        said["error"] = repr(error)
    said["body"] = base64.b64encode(got).decode()
    print(json.dumps(said), flush=True)
"#;

/// The programs, and their inputs.
pub struct Foreign {
    root: PathBuf,
    port: u16,
    /// The folder of body files, for clients that read them from a file.
    dir: tempfile::TempDir,
    httpx: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.httpx.kill();
        let _ = self.httpx.wait();
    }
}

impl Foreign {
    pub fn new(gateway: &Gateway) -> Foreign {
        let root = gateway.path("root.pem");
        let mut httpx = Command::new(python())
            .args(["-c", HTTPX])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(httpx.stdout.take().unwrap());
        Foreign { root, port: gateway.port, dir: tempfile::tempdir().unwrap(), httpx, said }
    }

    pub fn ask(&mut self, way: Way, case: &Case, path: &str) -> Seen {
        let fields = fields(case, false)
            .into_iter()
            .filter(|(name, _)| *name != "Content-Length")
            .chain([("Cookie", "a=b; c=d".to_owned())]);
        let fields: Vec<(&str, String)> = fields.collect();
        let target = format!("{path}?x=%7By%7D");
        match way {
            Way::Curl11 | Way::Curl2 => self.curl(way, case, &target, &fields),
            Way::Nghttp => self.nghttp(case, &target, &fields),
            _ => self.httpx(way, case, &target, &fields),
        }
    }

    /// Writes a request's body to a file.
    fn body(&self, case: &Case) -> PathBuf {
        let path = self.dir.path().join("body");
        std::fs::write(&path, case.body()).unwrap();
        path
    }

    fn curl(&self, way: Way, case: &Case, target: &str, fields: &[(&str, String)]) -> Seen {
        let host = Gateway::HOST;
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "60", "--globoff", "--cacert"])
            .arg(&self.root)
            .args(["--resolve", &format!("{host}:{}:127.0.0.1", self.port)])
            .arg(if way == Way::Curl2 { "--http2" } else { "--http1.1" })
            .args(["-H", "Expect:", "-H", &format!("Host: {host}")]);
        if !case.is_message() {
            command.args(["-H", "Content-Type:"]);
        }
        for (name, value) in fields {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        match case.method {
            "HEAD" => command.arg("-I"),
            method => command.args(["-i", "-X", method]),
        };
        match case.upload {
            Upload::None => &mut command,
            Upload::Chunked(_) => command.args(["-T", "-"]),
            _ => command.args(["--data-binary", "@-"]),
        };
        let input = std::fs::File::open(self.body(case)).unwrap();
        let url = format!("https://{host}:{}{target}", self.port);
        let out = command.arg(url).stdin(input).output().unwrap();
        let mut seen = nothing();
        let mut rest = &out.stdout[..];
        while seen.status == 0 {
            let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") else { return seen };
            let head: String = rest[..end].iter().map(|b| char::from(*b)).collect();
            rest = &rest[end + 4..];
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            if status < 200 {
                seen.interims.push(status);
                continue;
            }
            seen.status = status;
            for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
                put(&mut seen.fields, name, value);
            }
        }
        seen.body = rest.to_vec();
        seen.end = if out.status.success() { End::Whole } else { End::Cut };
        seen
    }

    /// Parses the frame log of nghttp. Bodies have the right length, and are zeros.
    fn nghttp(&self, case: &Case, target: &str, fields: &[(&str, String)]) -> Seen {
        let mut command = Command::new("nghttp");
        command.args(["-v", "-n", "-y", "--no-dep", "-t", "60"]);
        command.args(["-H", &format!(":method: {}", case.method)]);
        command.args(["-H", &format!(":authority: {}", Gateway::HOST)]);
        for (name, value) in fields {
            command.args(["-H", &format!("{}: {value}", name.to_ascii_lowercase())]);
        }
        match case.upload {
            Upload::None => &mut command,
            Upload::Chunked(_) => command.arg("--no-content-length"),
            _ => &mut command,
        };
        if case.upload != Upload::None {
            command.arg("-d").arg(self.body(case));
        }
        let url = format!("https://127.0.0.1:{}{target}", self.port);
        let out = command.arg(url).stdin(Stdio::null()).output().unwrap();
        let mut seen = nothing();
        let (mut length, mut stream) = (0, String::new());
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            if let Some((_, told)) = line.split_once("recv (stream_id=") {
                let (id, field) = told.split_once(") ").unwrap();
                if let Some(status) = field.strip_prefix(":status: ") {
                    match status.parse().unwrap() {
                        interim @ 100..200 => seen.interims.push(interim),
                        status => seen.status = status,
                    }
                    stream = format!("stream_id={id}>");
                } else if let (200.., Some((name, value))) = (seen.status, field.split_once(": ")) {
                    put(&mut seen.fields, name, value);
                }
            } else if let Some((_, frame)) = line.split_once("recv ")
                && !stream.is_empty()
                && line.contains(&stream)
            {
                let of = |name: &str| frame.split_once(name).unwrap().1.split_once(',').unwrap().0;
                if frame.starts_with("DATA ") {
                    length += of("length=").parse::<usize>().unwrap();
                }
                let ends = ["DATA ", "HEADERS "].iter().any(|kind| frame.starts_with(kind));
                let flags = u8::from_str_radix(of("flags=0x"), 16).unwrap();
                if ends && flags & END_STREAM != 0 {
                    seen.end = End::Whole;
                }
            }
        }
        seen.body = vec![0; length];
        seen
    }

    fn httpx(&mut self, way: Way, case: &Case, target: &str, fields: &[(&str, String)]) -> Seen {
        let body = case.body();
        let body = (case.upload != Upload::None).then(|| STANDARD.encode(body));
        let asked = json!({
            "method": case.method, "url": format!("https://127.0.0.1:{}{target}", self.port),
            "host": Gateway::HOST, "http2": way == Way::Httpx2, "fields": fields,
            "chunked": matches!(case.upload, Upload::Chunked(_)), "body": body,
        });
        writeln!(self.httpx.stdin.as_mut().unwrap(), "{asked}").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{case:?}: httpx"));
        let mut seen = nothing();
        seen.status = said["status"].as_u64().unwrap() as u16;
        for field in said["fields"].as_array().unwrap() {
            put(&mut seen.fields, field[0].as_str().unwrap(), field[1].as_str().unwrap());
        }
        seen.body = STANDARD.decode(said["body"].as_str().unwrap()).unwrap();
        seen.end = if said["whole"] == true { End::Whole } else { End::Cut };
        seen
    }
}

fn nothing() -> Seen {
    let (interims, fields, body) = (Vec::new(), Fields::new(), Vec::new());
    Seen { interims, status: 0, fields, body, end: End::Cut }
}

fn put(fields: &mut Fields, name: &str, value: &str) {
    fields.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
}
