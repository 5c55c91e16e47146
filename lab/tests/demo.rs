//! The demonstration, as a visitor runs it: every step succeeds, and no process or file remains.

use std::process::Command;

use sitegate_lab::walk::STEPS;

#[test]
fn the_demo_walk_passes() {
    let temp = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sitegate-lab"))
        .args(["demo", "--once"])
        .env("TMPDIR", temp.path())
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{table}{talk}");
    assert_eq!(
        table.lines().filter(|line| line.ends_with(" ok")).count(),
        19 + STEPS + 1,
        "{table}"
    );
    assert!(table.contains(&format!("{} steps, 0 failed", 19 + STEPS)), "{table}");
    assert!(!table.contains("FAILED") && !table.contains('\u{1b}'), "{table}");
    assert_eq!(talk, "", "the gateway's own log stays out of the walk");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is left behind");
}
