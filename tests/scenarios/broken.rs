//! Broken configurations, and good ones with broken files beside them: the output of `check` for
//! each, with line, caret and hint. Each case is a folder of tests/cases/broken; `said.txt` is the
//! expected output.
//!
//! `SITEGATE_UPDATE=1` writes the current output; review the diff before you commit it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::BINARY;

/// Errors without a line: they concern the whole file, or the line holds a secret.
const WHOLE: &[&str] = &["01-no-site-system", "20-password-in-the-file"];

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/broken");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
            if to.extension().is_some_and(|ext| ext == "key") {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
}

/// Runs a command on a case. Returns its exit code and its output, without machine-specific text.
fn said(command: &str, case: &Path) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    copy(case, dir.path());
    let out = Command::new(BINARY)
        .args([command, "--config", "gateway.toml"])
        .current_dir(dir.path())
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let all = [out.stdout, out.stderr].concat();
    let text = String::from_utf8(all).unwrap().replace(dir.path().to_str().unwrap(), "DIR");
    // The limit on open files depends on the machine.
    let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("  limits: "));
    let text: String = lines.collect();
    (out.status.code().unwrap(), text)
}

#[test]
fn every_broken_configuration_has_a_line_caret_and_hint() {
    let update = std::env::var_os("SITEGATE_UPDATE").is_some();
    let all = cases();
    assert!(all.len() >= 20, "{}", all.len());
    let mut faults = Vec::new();
    for case in all {
        let (exit, text) = said("check", &case);
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!text.contains('\u{1b}'), "{name}: escape codes in a pipe");
        let now = format!("{text}exit {exit}\n");
        let file = case.join("said.txt");
        if update {
            fs::write(&file, &now).unwrap();
        }
        let before = fs::read_to_string(&file).unwrap_or_default();
        if before != now {
            faults.push(format!("{name}: promised\n{before}\nsaid\n{now}"));
        }
        assert!(exit == 1 || exit == 78, "{name}: exit {exit}: it is not broken\n{text}");
        if exit == 78 && !WHOLE.contains(&name.as_str()) {
            let line = text.lines().any(|line| line.trim_start().starts_with("--> gateway.toml:"));
            assert!(line && text.contains("^"), "{name}: no place in\n{text}");
            assert_eq!(said("doctor", &case), (exit, text), "{name}: doctor says the same");
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
