//! The output of `check` and `doctor` for each state of a machine that an operator may find.
//!
//! `INSTA_UPDATE=always` writes the current output; review the diff before you commit it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rstest::rstest;
use serde_json::Value;

use crate::doctor::{patient, well};
use crate::machine::can_mount;
use crate::support::{Gateway, Plan};

/// Findings about the test machine.
const OF_THE_MACHINE: &[&str] =
    &["doctor.not_watchable", "doctor.watch_limit", "doctor.descriptor_limit"];

/// Replaces values that change on each run: paths, ports, times and thumbprints.
fn steady(gateway: &Gateway, text: &str) -> String {
    let dir = gateway.dir.path().display().to_string();
    let words = |line: &str| {
        let words: Vec<String> = line.split(' ').map(steady_word).collect();
        words.join(" ").trim_end().to_owned()
    };
    let text = text.replace(&dir, "DIR");
    let lines: Vec<String> = text.lines().map(words).collect();
    lines.join("\n")
}

fn steady_word(word: &str) -> String {
    let digits = |c: char| c.is_ascii_digit();
    let hex = word.trim_matches(|c: char| !c.is_ascii_hexdigit());
    if hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return word.replace(hex, "[thumbprint]");
    }
    if word.get(..2) == Some("20") && word.contains("T") && word.contains("Z") {
        return "[time]".to_owned();
    }
    let Some((before, after)) = word.rsplit_once(':') else { return word.to_owned() };
    let port: String = after.chars().take_while(|c| digits(*c)).collect();
    match port.len() {
        4.. => format!("{before}:[port]{}", &after[port.len()..]),
        _ => word.to_owned(),
    }
}

/// The output of each command about a state, after `first` has run in a shell.
fn said(gateway: &Gateway, within: &[&str], first: &str) -> String {
    let run = |command: &[&str]| {
        let program = gateway.command(command);
        let script = format!("{first}exec \"$0\" \"$@\"");
        let around = [within, &["sh", "-c", &script]].concat();
        let mut shell = Command::new(around[0]);
        shell.args(&around[1..]).arg(program.get_program()).args(program.get_args());
        shell.current_dir(gateway.dir.path()).env("NO_COLOR", "1").output().unwrap()
    };
    let checked = run(&["check"]);
    let check = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
    let check: Vec<&str> = check.lines().filter(|line| !line.starts_with("  limits: ")).collect();
    // As JSON: text output is wrapped by the length of this run's paths.
    let asked = run(&["doctor", "--format", "json"]);
    let found: Vec<Value> = serde_json::from_slice(&asked.stdout).unwrap_or_default();
    let of_the_state = |row: &&Value| !OF_THE_MACHINE.iter().any(|code| row["id"] == *code);
    let doctor: String = found.iter().filter(of_the_state).map(finding).collect();
    let text = format!(
        "$ sitegate check    (exit {})\n{}\n\n$ sitegate doctor    (exit {})\n{doctor}{}",
        checked.status.code().unwrap(),
        check.join("\n"),
        asked.status.code().unwrap(),
        String::from_utf8_lossy(&asked.stderr),
    );
    steady(gateway, &text)
}

fn finding(row: &Value) -> String {
    let part = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    format!(
        "{} {} ({})\n  {}\n    {}\n  {}\n\n",
        part("severity").to_uppercase(),
        part("id"),
        part("about"),
        part("title"),
        part("evidence"),
        part("hint")
    )
}

/// A gateway that has created its state, and does not run.
fn made(plan: Plan) -> Gateway {
    let mut gateway = plan.start();
    gateway.kill();
    gateway
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(format!("state_{name}"), text));
}

type Spoil = fn(&Gateway);

fn edit(gateway: &Gateway, from: &str, to: &str) {
    let text = gateway.config_text();
    assert!(text.contains(from), "{from}");
    gateway.write_config(&text.replacen(from, to, 1));
}

#[rstest]
#[case::good("good", |_: &Gateway| {})]
#[case::state_gone("gone", |g: &Gateway| std::fs::remove_dir_all(g.path("state")).unwrap())]
#[case::root_key_gone("root_key_gone", |g: &Gateway| {
    std::fs::remove_file(g.path("state/authority/root.key")).unwrap();
})]
#[case::root_key_open("root_key_open", |g: &Gateway| {
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(g.path("state/authority/root.key"), mode).unwrap();
})]
#[case::root_garbage("root_garbage", |g: &Gateway| {
    std::fs::write(g.path("state/authority/root.crt"), "garbage").unwrap();
})]
#[case::token_key_garbage("token_key_garbage", |g: &Gateway| {
    std::fs::write(g.path("state/token/token.key"), "garbage").unwrap();
})]
#[case::store_garbage("store_garbage", |g: &Gateway| {
    for beside in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(g.path(&format!("state/store/site.db{beside}")));
    }
    std::fs::write(g.path("state/store/site.db"), "garbage".repeat(1_000)).unwrap();
})]
#[case::state_of_another_site("of_another_site", |g: &Gateway| {
    std::fs::write(g.path("state/site-code"), "XYZ\n").unwrap();
})]
#[case::state_is_a_file("is_a_file", |g: &Gateway| {
    std::fs::remove_dir_all(g.path("state")).unwrap();
    std::fs::write(g.path("state"), "").unwrap();
})]
#[case::another_root_expected("another_root_expected", |g: &Gateway| {
    edit(g, "[admin]", &format!("roots = [\"{}\"]\n[admin]", "A1".repeat(32)));
})]
#[case::host_outside_the_root("host_outside_the_root", |g: &Gateway| {
    edit(g, "domains = [\"contoso.com\"]", "domains = [\"contoso.com\", \"fabrikam.com\"]");
    let text = std::fs::read_to_string(g.path("gateway.toml")).unwrap();
    g.write_config(&text.replace("hosts = [", "hosts = [\"mp.fabrikam.com\", "));
})]
#[case::log_folder_missing("log_folder_missing", |g: &Gateway| {
    edit(g, "access = \"access.log\"", "access = \"nowhere/access.log\"");
})]
#[case::blocklist_missing("blocklist_missing", |g: &Gateway| {
    edit(g, "[admin]", "blocklist = \"blocklist.toml\"\n[admin]");
})]
#[case::pki_folder_missing("pki_folder_missing", |g: &Gateway| std::fs::remove_dir(g.path("pki")).unwrap())]
#[case::misspelt("misspelt", |g: &Gateway| edit(g, "backend =", "backnd ="))]
#[case::half_a_file("half_a_file", |g: &Gateway| {
    let text = g.config_text();
    g.write_config(&text[..text.find("hosts").unwrap() + 7]);
})]
#[case::backend_is_the_listener("backend_is_the_listener", |g: &Gateway| {
    let text = g.config_text();
    let listen = format!("http://127.0.0.1:{}", g.port);
    let line = text.lines().find(|line| line.starts_with("backend")).unwrap().to_owned();
    g.write_config(&text.replace(&line, &format!("backend = \"{listen}\"")));
})]
#[case::nothing_at_the_backend("nothing_at_the_backend", |g: &Gateway| {
    let text = g.config_text();
    let line = text.lines().find(|line| line.starts_with("backend")).unwrap().to_owned();
    g.write_config(&text.replace(&line, "backend = \"http://127.0.0.1:1\""));
})]
#[case::wildcard_beside_an_address("wildcard_beside_an_address", |g: &Gateway| {
    let mut text = g.config_text();
    text.push_str(&format!(
        "[[site_system]]\nname = \"dp01\"\nroles = [\"distribution-point\"]\n\
         listen = \"0.0.0.0:{}\"\nhosts = [\"dp01.contoso.com\"]\nbackend = \"http://127.0.0.1:1\"\n",
        g.port
    ));
    g.write_config(&text);
})]
#[case::two_on_one_port("admin_and_metrics_on_one_port", |g: &Gateway| {
    let text = g.config_text();
    g.write_config(&text.replace(&format!(":{}\"", g.metrics), &format!(":{}\"", g.admin)));
})]
fn check_and_doctor_describe_each_state(#[case] name: &str, #[case] spoil: Spoil) {
    let gateway = made(patient(well));
    spoil(&gateway);
    snapshot(name, &said(&gateway, &["env"], ""));
}

#[rstest]
#[case::read_only(
    "read_only",
    "mount --bind state state && mount -o remount,ro,bind state state && "
)]
#[case::full(
    "full",
    "cp -a state before && mount -t tmpfs -o size=1m none state && cp -a before/. state && \
     { cat /dev/zero > state/filler 2> /dev/null || true; } && "
)]
fn check_and_doctor_describe_an_unwritable_state(#[case] name: &str, #[case] first: &str) {
    if !can_mount() {
        return;
    }
    let gateway = made(patient(well));
    snapshot(name, &said(&gateway, &["unshare", "-m"], first));
}

#[test]
fn check_and_doctor_describe_a_state_of_another_user() {
    if !can_mount() {
        return;
    }
    let gateway = made(patient(well));
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(gateway.dir.path(), open).unwrap();
    // A place from which that user can run the program.
    let as_another = "touch program && mount --bind \"$0\" program && \
                      exec setpriv --reuid=65534 --regid=65534 --clear-groups ./program \"$@\"; ";
    snapshot("of_another_user", &said(&gateway, &["unshare", "-m"], as_another));
}

#[test]
fn check_and_doctor_describe_a_taken_port() {
    let gateway = made(patient(well));
    let _taken = std::net::TcpListener::bind(("127.0.0.1", gateway.port)).unwrap();
    let told = said(&gateway, &["env"], "");
    // The process that holds the port is this one.
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    let own = format!("{} (process {})", own.trim(), std::process::id());
    assert!(told.contains(&own), "{told}");
    snapshot("port_taken", &told.replace(&own, "[process]"));
}
