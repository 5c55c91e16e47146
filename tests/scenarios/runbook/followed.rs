//! A section of the runbook: its text, and the output of its commands beside a gateway.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{BINARY, Gateway};

const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md"));

/// The sections' headings, without the page's own.
pub fn headings() -> impl Iterator<Item = &'static str> {
    TEXT.lines().filter_map(|line| line.strip_prefix("## "))
}

pub struct Runbook {
    section: &'static str,
    told: String,
}

impl Runbook {
    /// Runs all commands of a section, as an operator on the gateway's machine would.
    pub fn of(gateway: &Gateway, heading: &str) -> Runbook {
        let mut sections = TEXT.split("\n## ");
        let begins =
            |section: &&str| section.trim_start_matches("# ").lines().next() == Some(heading);
        let section = sections.find(begins).unwrap_or_else(|| panic!("no section {heading}"));
        let blocks = section.split("```").skip(1).step_by(2);
        let commands: Vec<&str> = blocks.flat_map(str::lines).filter(|l| !l.is_empty()).collect();
        let tools = tools(gateway);
        let told = commands.iter().map(|command| run(command, gateway, tools.path())).collect();
        Runbook { section, told }
    }

    /// Returns the output of the commands.
    pub fn told(&self) -> String {
        self.told.clone()
    }

    /// Checks that the output has these words, and that the section explains them.
    pub fn shows(&self, words: &[&str]) -> &Self {
        self.mentions(words).also(words)
    }

    /// Checks that the output has these words too, which need no explanation.
    pub fn also(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.told.contains(word), "{word} is not in what was told:\n{}", self.told);
        }
        self
    }

    /// Checks that the section explains this.
    pub fn mentions(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.section.contains(word), "{word} is not in the section:\n{}", self.section);
        }
        self
    }
}

/// The programs that the commands name: sitegate with this gateway's configuration, and its log in
/// place of the journal.
fn tools(gateway: &Gateway) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = gateway.path("gateway.toml");
    let write = |name: &str, script: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write(
        "sitegate",
        format!(
            "case \"$*\" in *--config*) exec {BINARY} \"$@\" ;; esac\n\
             exec {BINARY} \"$@\" --config {}",
            config.display()
        ),
    );
    write("journalctl", format!("exec cat {}", gateway.path("log").display()));
    for other in ["systemctl", "timedatectl", "chronyc"] {
        write(other, "exit 0".to_owned());
    }
    dir
}

/// Runs a command as written, with this gateway's addresses and files.
fn run(command: &str, gateway: &Gateway, tools: &Path) -> String {
    let (host, port) = (Gateway::HOST, gateway.port);
    let command = command
        .replace("/etc/sitegate/gateway.toml", &gateway.path("gateway.toml").display().to_string())
        .replace("/var/lib/sitegate", &gateway.path("").display().to_string())
        .replace("/var/log/sitegate/access.log", "access.log")
        .replace(&format!("-connect {host}:443"), &format!("-connect 127.0.0.1:{port}"))
        .replace("127.0.0.1:9181", &format!("127.0.0.1:{}", gateway.metrics));
    let path = std::env::var("PATH").unwrap_or_default();
    let out = Command::new("sh")
        .args(["-c", &command])
        .current_dir(gateway.path(""))
        .env("PATH", format!("{}:{path}", tools.display()))
        .output()
        .unwrap();
    let told = [out.stdout, out.stderr].concat();
    format!("$ {command}\n{}\n", String::from_utf8_lossy(&told))
}
