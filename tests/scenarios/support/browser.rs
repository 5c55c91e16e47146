//! A real headless browser, driven over WebDriver (W3C): plain JSON over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::{eventually, free_port};

pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Its profile and all other files that it writes.
    _dir: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Browser {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed by 'make setup'");
        let mut browser = Browser { driver, port, session: String::new(), _dir: dir };
        eventually("the driver listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let profile = format!("--user-data-dir={}", browser._dir.path().join("profile").display());
        // Its sandbox needs kernel features that a container lacks; it only loads trusted pages.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--hide-scrollbars",
            &profile,
            // The packaged start page is elsewhere.
            "about:blank",
        ];
        let asked = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let told = browser.ask("POST", "/session", Some(&asked));
        browser.session = format!("/session/{}", told["sessionId"].as_str().unwrap());
        browser.go("about:blank");
        let _ = browser.complaints();
        browser
    }

    /// Opens a URL, and waits until it is loaded.
    pub fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Evaluates an expression in the page.
    pub fn eval(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The visible text of the page.
    pub fn text(&self) -> String {
        self.eval("document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Sets the size and the color scheme.
    pub fn appear(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width < 500 });
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.cdp("Emulation.setEmulatedMedia", &scheme);
    }

    /// A screenshot as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let picture = self.ask("GET", &format!("{}/screenshot", self.session), None);
        BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    /// New errors since the last call: console messages, and failed requests.
    pub fn complaints(&self) -> Vec<String> {
        let entries = |kind: &str| {
            let told = self.post("/se/log", &json!({ "type": kind }));
            told.as_array().unwrap().clone()
        };
        let mut complaints: Vec<String> =
            entries("browser").iter().map(|entry| entry["message"].to_string()).collect();
        for entry in entries("performance") {
            let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let event = &event["message"];
            let failed = match event["method"].as_str() {
                Some("Network.loadingFailed") => true,
                Some("Network.responseReceived") => {
                    event["params"]["response"]["status"].as_u64().is_some_and(|s| s >= 400)
                }
                _ => false,
            };
            if failed {
                complaints.push(event.to_string());
            }
        }
        complaints
    }

    fn cdp(&self, command: &str, params: &Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }));
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), Some(body))
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 200"), "{method} {path}: {head} {body}");
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        answer["value"].take()
    }
}

/// Reads a response: head and body. The driver never closes its connections.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut piece = [0; 64 * 1024];
    loop {
        let read = stream.read(&mut piece).unwrap();
        assert_ne!(read, 0, "the driver closed before it answered");
        bytes.extend_from_slice(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.unwrap().trim().parse().unwrap();
        if bytes.len() >= end + 4 + length {
            let body = String::from_utf8(bytes[end + 4..end + 4 + length].to_vec()).unwrap();
            return (head, body);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session; a killed driver would leave it running.
        if !self.session.is_empty()
            && let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port))
        {
            let session = &self.session;
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(stream, "DELETE {session} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            // Answered once the browser has exited.
            let _ = stream.read(&mut [0; 1024]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
