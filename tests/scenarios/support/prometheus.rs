//! A real Prometheus that scrapes a gateway, with the shipped rules.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{eventually, free_port};

pub struct Prometheus {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes that port ten times a second, with shortened rule times.
    pub fn start(target: u16) -> Prometheus {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus.rules.yml");
        let rules = std::fs::read_to_string(shipped).unwrap();
        std::fs::write(dir.path().join("rules.yml"), hurried(&rules)).unwrap();
        let config = format!(
            "global: {{ scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 200ms }}\nrule_files: [rules.yml]\nscrape_configs:\n  - job_name: sitegate\n    static_configs:\n      - targets: [\"127.0.0.1:{target}\"]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus is installed by 'make setup'");
        let prometheus = Prometheus { child, port, dir };
        eventually("Prometheus is ready", || {
            prometheus.get("/-/ready").is_some_and(|text| text.contains("Ready"))
        });
        prometheus
    }

    /// The current series of an expression: labels and value of each.
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let query = form_urlencoded::byte_serialize(expression.as_bytes()).collect::<String>();
        let told = self.ask(&format!("/api/v1/query?query={query}"));
        let series = told["data"]["result"].as_array().unwrap();
        let value = |one: &Value| one["value"][1].as_str().unwrap().parse().unwrap();
        series.iter().map(|one| (one["metric"].clone(), value(one))).collect()
    }

    /// The labels of the firing alerts.
    pub fn firing(&self) -> Vec<Value> {
        let told = self.ask("/api/v1/alerts");
        let alerts = told["data"]["alerts"].as_array().unwrap().iter();
        alerts.filter(|a| a["state"] == "firing").map(|a| a["labels"].clone()).collect()
    }

    /// The rules that could not be evaluated, and the number of all rules.
    pub fn bad_rules(&self) -> (Vec<Value>, usize) {
        let told = self.ask("/api/v1/rules");
        let groups = told["data"]["groups"].as_array().unwrap();
        let rules: Vec<&Value> =
            groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
        let bad = rules.iter().filter(|rule| rule["health"] != "ok");
        (bad.map(|rule| (*rule).clone()).collect(), rules.len())
    }

    fn ask(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).unwrap()).unwrap()
    }

    fn get(&self, path: &str) -> Option<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let out = Command::new("curl").args(["-sS", "--max-time", "20", &url]).output().unwrap();
        out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
    }
}

/// Replaces minutes and hours by seconds, in `for` and in rate windows. The remaining lifetime of a
/// certificate stays.
fn hurried(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.trim_start().strip_prefix("for: ") {
        Some(_) => "        for: 1s".to_owned(),
        None => ["[5m]", "[10m]", "[15m]", "[1h]", "[1d]"]
            .iter()
            .fold(line.to_owned(), |line, range| line.replace(range, "[5s]"))
            .replace("offset 10m", "offset 5s"),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("Prometheus's log:\n{log}");
        }
    }
}
