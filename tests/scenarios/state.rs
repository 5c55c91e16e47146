//! The state directory: its owner, its reports, and the creation of its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{Gateway, Nginx, Plan, eventually};

fn said(gateway: &Gateway, command: &[&str]) -> (i32, String) {
    let out = gateway.command(command).output().unwrap();
    (out.status.code().unwrap(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
}

/// Every file of a folder, with its size and the time of its last change.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), (meta.len(), meta.modified().unwrap()));
        }
    }
    found
}

#[test]
fn check_and_doctor_change_nothing_of_the_state() {
    let nginx = Nginx::start();
    let mut gateway = Plan::to(&nginx.url()).site_system("token_service = true").start();
    gateway.kill();
    // In the form of a copy: one file, and no log beside it.
    let store = gateway.path("state/store/site.db");
    let sqlite = std::process::Command::new("sqlite3")
        .arg(&store)
        .arg("PRAGMA wal_checkpoint(TRUNCATE)")
        .output()
        .expect("sqlite3 is installed by 'make setup'");
    assert!(sqlite.status.success() && !store.with_extension("db-wal").exists());
    let before = files(&gateway.path("state"));
    for command in ["check", "doctor"] {
        let (_, text) = said(&gateway, &[command]);
        assert!(!text.contains("site.db:"), "{text}");
        assert_eq!(files(&gateway.path("state")), before, "{command}");
    }
}

#[test]
fn a_second_process_on_the_same_state_does_not_start() {
    let nginx = Nginx::start();
    let first = Plan::to(&nginx.url()).start();
    let mut second = Gateway::prepare(Plan::to(&nginx.url()));
    let state = first.path("state").display().to_string();
    second.write_config(&second.config_text().replace("\"state\"", &format!("\"{state}\"")));
    second.launch();
    eventually("it listens or says why not", || {
        ["listening", "cannot start"].iter().any(|word| second.log().contains(word))
    });
    assert!(!second.log().contains("listening"), "{}", second.log());
    assert_ne!(second.wait(), 0);
    let told = format!("another sitegate (process {}) has this state directory", first.pid());
    assert!(second.log().contains(&told), "{}", second.log());
    assert_eq!(first.curl("/CCM_Client/ccmsetup.cab", &[]).status, 200);
}

#[test]
fn the_state_of_another_site_is_refused_at_a_start() {
    let nginx = Nginx::start();
    let mut gateway = Plan::to(&nginx.url()).start();
    gateway.kill();
    gateway.write_config(&gateway.config_text().replace("\"PS1\"", "\"XYZ\""));
    gateway.launch();
    eventually("it listens or says why not", || {
        ["listening", "cannot start"].iter().any(|word| gateway.log().contains(word))
    });
    assert!(!gateway.log().contains("listening"), "{}", gateway.log());
    assert_ne!(gateway.wait(), 0);
    assert!(gateway.log().contains("of site PS1, and [site] code is XYZ"), "{}", gateway.log());
}

#[test]
fn a_missing_state_directory_is_reported_and_not_recreated() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    assert_eq!(gateway.metric("sitegate_state_present"), 1.0);
    let (state, away) = (gateway.path("state"), gateway.path("away"));
    std::fs::rename(&state, &away).unwrap();
    eventually("it is told", || gateway.metric("sitegate_state_present") == 0.0);
    let warning = "the state directory";
    assert!(said(&gateway, &["status"]).1.contains(warning));
    assert!(said(&gateway, &["health"]).1.contains(warning));
    gateway.assert_logged("the state directory is missing");
    let device = crate::support::DEVICE;
    for command in [&["token", "issue", "--device", device][..], &["site", "export-root"]] {
        let (code, text) = said(&gateway, command);
        assert_ne!(code, 0, "{command:?}: {text}");
    }
    assert!(!state.exists(), "no command makes a state directory");
    std::fs::rename(&away, &state).unwrap();
    eventually("it is there again", || gateway.metric("sitegate_state_present") == 1.0);
}

#[test]
fn a_new_root_is_a_warning() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("made the site's root")).unwrap();
    assert!(line.contains(" WARN "), "{line}");
}

/// The thumbprint of the current root, in readable form.
fn root_of(gateway: &Gateway) -> String {
    let out = gateway.command(&["site", "show", "--format", "json"]).output().unwrap();
    let shown: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).unwrap();
    let root = |row: &&serde_json::Value| row["kind"] == "root" && row["state"] == "in force";
    shown.iter().find(root).unwrap()["certificate"]["thumbprint_sha256"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn expect_roots(gateway: &Gateway, roots: &[&str]) {
    let text = gateway.config_text();
    let key = format!("code = \"PS1\"\nroots = {roots:?}");
    gateway.write_config(&text.replace("code = \"PS1\"", &key));
}

/// Starts it, and checks that it refuses to start.
fn refused(gateway: &mut Gateway) -> String {
    gateway.launch();
    eventually("it listens or says why not", || {
        ["listening", "cannot start"].iter().any(|word| gateway.log().contains(word))
    });
    assert!(!gateway.log().contains("listening"), "{}", gateway.log());
    assert_ne!(gateway.wait(), 0);
    gateway.log()
}

const OTHER: &str = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff";

#[test]
fn an_empty_state_directory_is_refused_where_roots_are_expected() {
    let nginx = Nginx::start();
    let mut gateway = Plan::to(&nginx.url()).start();
    let root = root_of(&gateway);
    gateway.kill();
    expect_roots(&gateway, &[&root]);
    std::fs::rename(gateway.path("state"), gateway.path("away")).unwrap();
    std::fs::create_dir(gateway.path("state")).unwrap();
    let log = refused(&mut gateway);
    assert!(
        log.contains(&format!("there is no root here, and [site] roots names {root}")),
        "{log}"
    );
    let (code, text) = said(&gateway, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("there is no root here"), "{text}");
    let made = ["state/authority", "state/token"].map(|folder| gateway.path(folder).exists());
    assert_eq!(made, [false, false], "no key was made");
    std::fs::remove_dir_all(gateway.path("state")).unwrap();
    std::fs::rename(gateway.path("away"), gateway.path("state")).unwrap();
    gateway.launch();
    gateway.wait_until_ready();
    assert_eq!(root_of(&gateway), root);
}

#[test]
fn another_root_than_the_expected_is_refused() {
    let nginx = Nginx::start();
    let mut gateway = Plan::to(&nginx.url()).start();
    let root = root_of(&gateway);
    gateway.kill();
    expect_roots(&gateway, &[OTHER]);
    let log = refused(&mut gateway);
    assert!(log.contains(&format!("the root here is {root}, and [site] roots names")), "{log}");
    assert!(said(&gateway, &["doctor"]).1.contains("the root here is"));
}

#[test]
fn a_root_is_not_retired_before_the_one_that_stays_is_expected() {
    let nginx = Nginx::start();
    let mut gateway = Plan::to(&nginx.url()).start();
    let old = root_of(&gateway);
    gateway.kill();
    expect_roots(&gateway, &[&old]);
    gateway.launch();
    gateway.wait_until_ready();
    let rollover = |step: &[&str]| said(&gateway, &[&["site", "rollover"], step].concat());
    assert_eq!(rollover(&["publish", "root"]).0, 0);
    assert_eq!(rollover(&["switch", "root", "--clients-have-it"]).0, 0);
    let new = root_of(&gateway);
    let (code, text) = rollover(&["retire", "root"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&format!("roots does not name the root that stays, {new}")), "{text}");
    expect_roots(&gateway, &[&old, &new]);
    eventually("the old root is retired", || rollover(&["retire", "root"]).0 == 0);
    gateway.kill();
    gateway.launch();
    gateway.wait_until_ready();
}

#[test]
fn metrics_have_the_roots_thumbprint() {
    let nginx = Nginx::start();
    let gateway = Plan::to(&nginx.url()).start();
    let root = root_of(&gateway);
    let series =
        format!("sitegate_site_root_expiration_timestamp_seconds{{thumbprint=\"{root}\"}}");
    eventually("it is there", || {
        gateway.get(gateway.metrics, "/metrics").unwrap().1.contains(&series)
    });
}
