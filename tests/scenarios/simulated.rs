//! The simulated site system and the simulated clients, each as the program that an administrator
//! runs, with a gateway between them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{DEVICE, Gateway, Plan, eventually, lab};

/// A backend as a separate process.
pub struct Backend {
    child: Child,
    url: String,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Backend {
    pub fn start(args: &[&str]) -> Backend {
        let mut command = Command::new(lab());
        command.args(["backend", "--listen", "127.0.0.1:0", "--poll", "300ms"]).args(args);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        let url = first.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{first}");
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Backend { child, url, lines }
    }

    fn stop(mut self) -> Vec<String> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        self.lines.iter().collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ROUTES: &str = "[[site_system.route]]\npath = \"/reports/\"\nrequire = \"anonymous\"\n\
                      rewrite_links = true\n\
                      [site_system.alt_auth]\nnetworks = [\"127.0.0.1\"]\n\
                      endpoints = [\"MP_LocationManager\"]\n";

/// A gateway with a token service in front of the backend.
pub fn gateway(backend: &Backend, site_system: &str, after: &str) -> Gateway {
    Plan::to(&backend.url)
        .sections(
            "[token_service]\nregistrations_per_minute = 100000\nrequests_per_minute = 100000\n",
        )
        .site_system("token_service = true")
        .site_system(site_system)
        .after(after)
        .start()
}

/// The command line of a client, with a bulk token.
pub fn client(gateway: &Gateway, args: &[&str]) -> Command {
    let bulk = gateway.command(&["token", "bulk"]).output().unwrap();
    assert!(bulk.status.success());
    std::fs::write(gateway.path("bulk"), bulk.stdout).unwrap();
    let mut command = Command::new(lab());
    command.arg("client").arg("--gateway").arg(gateway.url("")).arg("--trust");
    command.arg(gateway.path("root.pem")).arg("--bulk-token").arg(gateway.path("bulk"));
    command.args(["--connect", &format!("127.0.0.1:{}", gateway.port)]).args(args);
    command
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(all).unwrap()
}

#[test]
fn a_simulated_client_reports_every_step_of_a_site() {
    let backend = Backend::start(&["--not-ready", "PS100012=2"]);
    let gateway = gateway(&backend, "windows_auth = true", ROUTES);
    let (user, media) = (gateway.path("user"), gateway.path("media"));
    std::fs::write(&user, gateway.issue(&["--user", "CONTOSO\\anna"])).unwrap();
    std::fs::write(&media, gateway.issue(&["--kind", "boot-media", "--device", DEVICE])).unwrap();
    let mut command = client(&gateway, &["--alt-auth", "--ntlm", "anna", "--reports", "/reports/"]);
    command.arg("--user-token").arg(user).arg("--media-token").arg(media);
    let output = command.output().unwrap();
    let table = text(&output);
    assert!(output.status.success(), "{table}");
    let sum = format!("{} steps as expected, 0 failed, 0 skipped\n", sitegate_lab::walk::STEPS);
    assert!(table.ends_with(&sum), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours where nobody would see them: {table}");
    assert!(table.contains("after 2 times not ready"), "{table}");
    let lines = backend.stop();
    let policy = lines.iter().find(|line| line.starts_with("200 GET /SMS_MP/.sms_pol")).unwrap();
    assert!(policy.contains("sitegate-device: GUID:"), "{policy}");
    assert!(!policy.contains("Authorization"), "{policy}");
    assert!(lines.iter().any(|line| line.contains("connection of anna")), "{lines:?}");
    assert!(lines.last().unwrap().contains(" requests on "), "{lines:?}");
}

#[test]
fn what_is_closed_is_a_step_that_is_expected_to_be_refused() {
    let backend = Backend::start(&["--quiet"]);
    let gateway = gateway(&backend, "", "");
    let output = client(&gateway, &["--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let steps: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let code = |name: &str| {
        let found = steps.as_array().unwrap().iter().find(|step| step["step"] == name).unwrap();
        (found["status"].as_u64().unwrap_or_default(), found["code"].clone())
    };
    assert_eq!(code("boot media: AltAuth"), (403, "route.alt_auth".into()));
    assert_eq!(code("Windows authentication"), (403, "route.windows_auth".into()));
    assert_eq!(code("user service as device"), (403, "user.token_required".into()));
    assert_eq!(code("fetch the policy"), (200, serde_json::Value::Null));
    // A false expectation is a failure, with its code.
    let output = client(&gateway, &["--ntlm", "anna"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("FAILED  403 EHTTP_Route_Windows_Auth (route.windows_auth)"));
}

#[test]
fn a_fleet_works_and_its_summary_says_how_long_things_took() {
    let backend = Backend::start(&["--quiet"]);
    let gateway = gateway(&backend, "", "");
    let args = ["--fleet", "20", "--for", "3s", "--rate", "200", "--format", "json"];
    let output = client(&gateway, &args).output().unwrap();
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    assert!(output.stderr.is_empty(), "no progress where nobody looks: {told}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["clients"], &summary["failed"]), (&20.into(), &0.into()), "{told}");
    let requests = summary["requests"].as_u64().unwrap();
    assert!(requests > 60, "{told}");
    let steps = summary["steps"].as_array().unwrap();
    for name in ["register", "token", "policy-message", "policy", "location", "download"] {
        let row = steps.iter().find(|row| row["step"] == name).unwrap();
        let (p50, p99) = (row["p50_ms"].as_f64().unwrap(), row["p99_ms"].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99 && p99 <= row["max_ms"].as_f64().unwrap(), "{row}");
    }
    let devices = gateway.command(&["site", "devices"]).output().unwrap();
    assert!(text(&devices).matches("GUID:").count() >= 20, "each client is a device of its own");
}

#[test]
fn a_device_blocked_mid_fleet_fails_with_its_code() {
    let backend = Backend::start(&["--quiet"]);
    let gateway = gateway(&backend, "", "");
    let args = ["--fleet", "10", "--for", "6s", "--rate", "100"];
    let fleet = client(&gateway, &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut blocked = String::new();
    eventually("all have registered", || {
        let list = gateway.command(&["site", "devices"]).output().unwrap();
        let list = text(&list);
        let ids: Vec<&str> = list.split_whitespace().filter(|w| w.starts_with("GUID:")).collect();
        blocked = ids.first().copied().unwrap_or_default().to_owned();
        ids.len() == 10
    });
    let done = gateway.command(&["site", "block", &blocked]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let output = fleet.wait_with_output().unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let failures: Vec<&str> = told.split("\nfailed\n").nth(1).unwrap().lines().collect();
    assert!(failures.iter().all(|line| line.ends_with(" 403 device.blocked")), "{told}");
    // The blocked device may have had no token yet, and then it has done nothing.
    assert!(told.contains(" of 10 clients in "), "{told}");
}

#[test]
fn an_interrupt_ends_a_fleet_with_its_summary() {
    let backend = Backend::start(&["--quiet"]);
    let gateway = gateway(&backend, "", "");
    let args = ["--fleet", "5", "--for", "10m"];
    let fleet = client(&gateway, &args).stdout(Stdio::piped()).spawn().unwrap();
    eventually("it works", || gateway.metric("sitegate_requests_total") > 50.0);
    let pid = fleet.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = fleet.wait_with_output().unwrap();
    let told = text(&output);
    // One of them may not have had its turn.
    assert!(output.status.success() && told.contains(" of 5 clients in "), "{told}");
    assert!(told.contains(" 0 failed\n"), "{told}");
}

#[test]
fn simulated_content_may_come_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("PS100077")).unwrap();
    crate::support::write_pattern(&folder.path().join("PS100077/image.wim"), 3);
    let content = folder.path().to_str().unwrap().to_owned();
    let backend = Backend::start(&["--quiet", "--content", &content]);
    let gateway = gateway(&backend, "", "");
    let output = client(&gateway, &["--package", "PS100077"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("4 ranges of 3145728 bytes, checksum equal\n"));
}
