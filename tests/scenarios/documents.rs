//! The console blocks of the documents, run as written, from the first to the last block of each
//! document, in an empty folder and an isolated network. The output matches the documented output,
//! except for values that change on each run.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{BINARY, lab};

/// Runs a command as a shell would. The test runner knows only words: this adds `$(…)`, quotation
/// marks around it, `> FILE`, and `&`, after which the next command runs once the server is up.
const SHELL: &str = r#"#!/bin/bash
words=(); into=; behind=
while [ $# -gt 0 ]; do
  case "$1" in
    '>') into="$2"; shift 2 ;;
    '&') behind=1; shift ;;
    *'$('*) eval "word=\"$1\""; words+=("$word"); shift ;;
    *) words+=("$1"); shift ;;
  esac
done
run=(nsenter --net="$NETWORK" PROGRAM "${words[@]}")
if [ -n "$behind" ]; then
  log="behind.$$.log"
  # There before it is looked at, which the process behind may be too late for.
  : >"$log"
  "${run[@]}" >"$log" 2>&1 &
  echo $! >>behind
  for _ in $(seq 200); do
    grep -qE 'listening|started|http://' "$log" && exit 0
    sleep 0.05
  done
  cat "$log"
  exit 1
fi
if [ -n "$into" ]; then "${run[@]}" >"$into"; else "${run[@]}"; fi
"#;

/// An isolated network namespace without listeners.
struct Network(Child);

impl Network {
    /// `None` if this machine does not allow one.
    fn new() -> Option<Network> {
        let script = "ip link set lo up && echo up && exec sleep 3600";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut first = String::new();
        let _ = BufReader::new(child.stdout.take()?).read_line(&mut first);
        let network = Network(child);
        (first == "up\n").then_some(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder. Processes that remain in it are killed on drop.
struct Folder(tempfile::TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        let behind = std::fs::read_to_string(self.0.path().join("case.in/behind"));
        for pid in behind.unwrap_or_default().lines() {
            let _ = Command::new("kill").args(["-KILL", pid]).status();
        }
    }
}

/// Returns only the console blocks, on their original lines, with changing values as wildcards.
fn blocks(text: &str) -> String {
    let (mut kept, mut within, mut said) = (String::new(), None, false);
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        let indent = line.len() - line.trim_start().len();
        if let Some(indent) = within {
            let line = line.get(indent..).unwrap_or_default();
            let is_typed = fence || line.starts_with(['$', '>', '?']);
            // The runner takes an empty line to mean that the previous output ends with one.
            if is_typed && said {
                kept.push('\n');
            }
            said = !is_typed;
            kept.push_str(&if is_typed { line.to_owned() } else { opened(line) });
            within = (!fence).then_some(indent);
        } else if line.trim_start().starts_with("```console") {
            kept.push_str(line.trim_start());
            within = Some(indent);
        }
        kept.push('\n');
    }
    kept
}

/// Returns a line of output with its times and its changing numbers as `[..]`.
fn opened(line: &str) -> String {
    let line = &without_distances(line);
    let mut before = "";
    let words = line.split(' ').map(|word| {
        let is_once = is_time(word) || before == "(process";
        before = word;
        if is_once { "[..]".to_owned() } else { without_ids(word) }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Replaces relative times.
fn without_distances(line: &str) -> String {
    let groups = line.split_inclusive(')').map(|part| match part.split_once('(') {
        Some((before, inner)) if inner == "now)" || inner.ends_with(" ago)") => {
            format!("{before}[..]")
        }
        _ => part.to_owned(),
    });
    groups.collect()
}

fn is_time(word: &str) -> bool {
    let year = word.get(..4).is_some_and(|year| year.bytes().all(|b| b.is_ascii_digit()));
    year && word.get(4..5) == Some("-")
}

/// Replaces thumbprints and request ids: long runs of hexadecimal digits.
fn without_ids(word: &str) -> String {
    let parts = word.split_inclusive(|c: char| !c.is_ascii_hexdigit()).map(|part| {
        let id = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        if id.len() >= 32 { part.replace(id, "[..]") } else { part.to_owned() }
    });
    parts.collect()
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let all =
        docs.chain([root.join("README.md")]).filter(|path| path.extension() == Some("md".as_ref()));
    let mut all: Vec<PathBuf> = all.collect();
    all.sort();
    all
}

#[test]
fn every_console_block_of_the_documents_shows_what_it_says() {
    let Some(network) = Network::new() else {
        println!("no network of its own here, so that this is not tried");
        return;
    };
    let mut tried = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        if !text.contains("```console") {
            continue;
        }
        tried += text.matches("```console").count();
        println!("{}", document.display());
        let folder = Folder(tempfile::tempdir().unwrap());
        let case = folder.0.path().join("case.md");
        std::fs::create_dir(folder.0.path().join("case.in")).unwrap();
        std::fs::write(&case, blocks(&text)).unwrap();
        let program = |name: &str, program: &str| {
            let path = folder.0.path().join(name);
            std::fs::write(&path, SHELL.replace("PROGRAM", program)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let cases = trycmd::TestCases::new();
        cases.register_bin("sitegate", program("sitegate", BINARY));
        let simulator = lab();
        let simulator = simulator.to_str().unwrap();
        cases.register_bin("sitegate-lab", program("sitegate-lab", simulator));
        cases.register_bin("curl", program("curl", "curl"));
        cases.env("NETWORK", format!("/proc/{}/ns/net", network.0.id()));
        cases.env("NO_COLOR", "1");
        cases.case(&case);
        cases.run();
    }
    assert!(tried > 2, "{tried} blocks");
}
