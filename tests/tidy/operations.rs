//! The operations files: alert rules and metrics by promtool, the unit by systemd, the dashboard.
//!
//! A missing tool is a failure if CI is set; otherwise the check is skipped with a message.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use sitegate::denial::Denial;
use sitegate::metrics::{ClearOutcome, ConnectionEnd, Metrics};
use sitegate::unfit::Unfit;

use crate::source::{read, root};

/// Checks whether a tool can be run.
fn have(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    let ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false");
    assert!(found || !ci, "{tool} is missing; 'make setup' installs it");
    if !found {
        eprintln!("{tool} is missing, so it was not asked; 'make setup' installs it");
    }
    found
}

fn run(command: &mut Command, input: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&said));
}

/// Metrics with at least one series of each.
fn busy() -> Metrics {
    let metrics = Metrics::new().unwrap();
    let route = metrics.routes.of("mp01", "mp-policy");
    route.answered(200, Duration::from_millis(3), 10, 20);
    route.denied(Denial::TokenExpired);
    route.observed(Denial::TokenMissing);
    route.came_in_clear(ClearOutcome::Passed);
    metrics.process.observing("mp01", Some(true));
    let backend = metrics.backends.of("iis:80", "192.0.2.1:80");
    backend.connected(Duration::from_millis(1));
    backend.answered(Duration::from_millis(3));
    metrics.backends.seen("iis:80", "192.0.2.1:80", Some(true), Some(1_800_000_000.0));
    metrics.tokens.cached(true);
    metrics.connections.ended(ConnectionEnd::NameUnknown);
    metrics.connections.handshake_done("TLSv1_3", "TLS13_AES_128_GCM_SHA256");
    metrics.certificates.expires("mp01", "pki", Some(1_900_000_000));
    metrics.certificates.served("mp01", None, Some(("pki", "pki-fit")));
    metrics.certificates.rejected("mp01", "pki", Some(Unfit::Expired));
    metrics.certificates.swapped("mp01", "pki", "site-issued", "site-issued-pki-unfit");
    metrics.process.config_reloaded(Some(1_800_000_000));
    metrics.tokens.keys_loaded("entra", 3, 1);
    metrics.tokens.keys_fetched("entra", "ok", Some(1_800_000_000));
    metrics.certificates.stapled("mp01", Some(1_800_000_000), true);
    metrics.clients.trusted("mp01", Some((2, 1)), Some(1_800_000_000));
    metrics.site.answered("token", Ok(()));
    metrics.site.roots([("AA", 1_900_000_000)].into_iter());
    metrics.store.works(true);
    metrics.store.failed("store.unreachable");
    metrics.site.bundles_made(true, 4096);
    metrics.following.bundle(7, 1_800_000_000, 1_800_345_600);
    metrics.following.bundle_refused("bundle.older");
    metrics.following.site_server_reached(true);
    metrics.following.site_server_clock(0);
    metrics
}

#[test]
fn promtool_finds_nothing_wrong_with_the_alert_rules() {
    if have("promtool") {
        let rules = root().join("config/prometheus.rules.yml");
        run(Command::new("promtool").args(["check", "rules"]).arg(rules), "");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    if have("promtool") {
        run(Command::new("promtool").args(["check", "metrics"]), &busy().render());
    }
}

#[test]
fn every_metric_has_a_series_once_there_is_something_to_count() {
    let text = busy().render();
    for name in Metrics::new().unwrap().names() {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is never written");
    }
}

#[test]
fn the_alerts_fire_when_they_should_and_not_before() {
    if have("promtool") {
        let tests = root().join("config/prometheus.rules.test.yml");
        run(Command::new("promtool").args(["test", "rules"]).arg(tests), "");
    }
}

#[test]
fn the_dashboard_is_json_with_a_query_in_every_panel() {
    let board: serde_json::Value =
        serde_json::from_str(&read("config/grafana-dashboard.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() >= 10);
    for panel in panels {
        let query = panel["targets"][0]["expr"].as_str().unwrap_or_default();
        assert!(query.contains("sitegate_"), "{}", panel["title"]);
    }
}

#[test]
fn the_service_is_as_confined_as_it_can_be() {
    let unit = root().join("config/sitegate.service");
    // Not every build host has systemd; if it is there, its verdict counts.
    if Command::new("systemd-analyze").arg("--version").output().is_ok() {
        let mut judge = Command::new("systemd-analyze");
        judge.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(&unit);
        run(&mut judge, "");
    }
    let text = read("config/sitegate.service");
    for line in ["Type=notify", "RestartPreventExitStatus=78", "ExecReload=/bin/kill -HUP $MAINPID"]
    {
        assert!(text.lines().any(|l| l == line), "config/sitegate.service lacks {line}");
    }
}
