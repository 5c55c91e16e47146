//! The documents match the code: one row for each entry of a closed list, and only commands,
//! targets and links that exist.

use std::collections::BTreeSet;

use clap::CommandFactory;
use clap::error::ErrorKind;
use sitegate::app::Ailment;
use sitegate::cert::Why;
use sitegate::cli::Cli;
use sitegate::config::ConfigCode;
use sitegate::denial::Denial;
use sitegate::grant_denial::GrantDenial;
use sitegate::metrics::{ConnectionEnd, Metrics};
use sitegate::site::StepRefusal;
use sitegate::site::server::SiteDenial;
use sitegate::site::store::StoreFault;
use sitegate::token::BundleRefusal;
use sitegate::unfit::Unfit;
use sitegate_lab::cli::LabCli;

use crate::source::{files, product, read, root};

/// Returns the rows of a document's tables with code in the first cell.
fn rows(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect()
}

/// Checks that every wanted row stands in the document once, and no other code row does.
fn compare(path: &str, wanted: &[String]) {
    let found = rows(&read(path));
    let mut faults = Vec::new();
    for row in wanted {
        match found.iter().filter(|f| *f == row).count() {
            1 => {}
            0 => faults.push(format!("missing: {row}")),
            n => faults.push(format!("{n} times: {row}")),
        }
    }
    for row in found.iter().filter(|row| !wanted.contains(row)) {
        faults.push(format!("not of the code: {row}"));
    }
    assert!(faults.is_empty(), "{path}:\n{}", faults.join("\n"));
}

fn denial(d: Denial) -> String {
    let phrase = d.reason_phrase();
    format!("| `{}` | {} | `{phrase}` | {} | {} |", d.code(), d.status(), d.title(), d.hint())
}

fn unfit(u: Unfit) -> String {
    format!("| `{}` | {} | {} |", u.code(), u.title(), u.hint())
}

fn names() -> BTreeSet<String> {
    Metrics::new().unwrap().names().clone()
}

#[test]
fn every_denial_has_its_row() {
    let wanted: Vec<String> = Denial::ALL.iter().copied().map(denial).collect();
    compare("docs/denials.md", &wanted);
}

#[test]
fn every_refusal_of_the_token_service_has_its_row() {
    let text = read("docs/token-service.md");
    for d in GrantDenial::ALL {
        let row = format!(
            "| `{}` | {} | `{}` | {} | {} |",
            d.code(),
            d.status(),
            d.error().unwrap_or("none"),
            d.title(),
            d.hint()
        );
        assert_eq!(text.matches(row.as_str()).count(), 1, "docs/token-service.md: {row}");
    }
}

#[test]
fn every_refusal_of_gateways_and_bundles_has_its_row() {
    let text = read("docs/site-server.md");
    let of_gateways = SiteDenial::ALL
        .iter()
        .map(|d| format!("| `{}` | {} | {} |", d.code(), d.status(), d.title()));
    let of_bundles = BundleRefusal::ALL.iter().map(|refusal| {
        let told = refusal.to_string();
        let (first, rest) = told.split_at(1);
        format!("| `{}` | {}{rest}. |", refusal.code(), first.to_uppercase())
    });
    for row in of_gateways.chain(of_bundles) {
        assert_eq!(text.matches(row.as_str()).count(), 1, "docs/site-server.md: {row}");
    }
}

#[test]
fn every_fault_of_the_store_has_its_row() {
    let wanted: Vec<String> = StoreFault::ALL
        .iter()
        .map(|f| format!("| `{}` | {} | {} |", f.code(), f.title(), f.hint()))
        .collect();
    compare("docs/store.md", &wanted);
}

#[test]
fn every_refusal_of_a_rollover_has_its_row() {
    let wanted: Vec<String> = StepRefusal::ALL
        .iter()
        .map(|r| format!("| `{}` | {} | {} |", r.code(), r.title(), r.hint()))
        .collect();
    compare("docs/rollover.md", &wanted);
}

#[test]
fn every_reason_of_a_certificate_has_its_row() {
    let text = read("docs/certificates.md");
    let wanted: Vec<String> = Unfit::ALL.iter().copied().map(unfit).collect();
    for row in &wanted {
        assert_eq!(text.matches(row.as_str()).count(), 1, "docs/certificates.md: {row}");
    }
    let whys: BTreeSet<&str> = Why::ALL.iter().map(|why| why.as_str()).collect();
    let warnings = [
        "certificate.key_group_readable",
        "certificate.renewal_overdue",
        "certificate.unstapled",
        "certificate.authority_ending",
    ];
    let mut seen = BTreeSet::new();
    for row in rows(&text).iter().filter(|row| !wanted.contains(row)) {
        let word = row.split('`').nth(1).unwrap_or_default().to_owned();
        assert!(
            whys.contains(word.as_str()) || warnings.contains(&word.as_str()),
            "docs/certificates.md: '{word}' is not of the code, or its row is not the code's"
        );
        assert!(seen.insert(word), "docs/certificates.md: twice: {row}");
    }
    for why in whys {
        assert!(seen.contains(why), "docs/certificates.md lacks a row for '{why}'");
    }
}

#[test]
fn every_finding_of_the_doctor_has_its_row_and_its_case() {
    let row = |a: &Ailment| {
        let severity = a.severity().as_str();
        format!("| `{}` | {severity} | {} | {} |", a.code(), a.title(), a.hint())
    };
    let wanted: Vec<String> = Ailment::ALL.iter().map(row).collect();
    compare("docs/doctor.md", &wanted);
    let cases = read("tests/scenarios/doctor.rs");
    for ailment in Ailment::ALL {
        let code = ailment.code();
        assert!(cases.contains(code), "tests/scenarios/doctor.rs has no case of {code}");
    }
}

#[test]
fn every_metric_and_every_end_of_a_connection_has_its_row() {
    let text = read("docs/metrics.md");
    let first: Vec<String> =
        rows(&text).iter().filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect();
    let unique: BTreeSet<String> = first.iter().cloned().collect();
    assert_eq!(first.len(), unique.len(), "docs/metrics.md has a row twice");
    let ends = ConnectionEnd::ALL.iter().map(|end| end.as_str().to_owned());
    let wanted: BTreeSet<String> = names().into_iter().chain(ends).collect();
    let missing: Vec<_> = wanted.difference(&unique).collect();
    let foreign: Vec<_> = unique.difference(&wanted).collect();
    assert!(missing.is_empty() && foreign.is_empty(), "missing {missing:?}, foreign {foreign:?}");
}

#[test]
fn every_field_of_the_access_log_has_its_row() {
    let source = read("src/log/access_entry.rs");
    let (_, after) = source.split_once("pub struct Access<'a> {").unwrap();
    let body = after.split("\n}").next().unwrap();
    let fields = body
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("pub ")?.split_once(':')?.0.to_owned()));
    let wanted: BTreeSet<String> = fields.collect();
    let text = read("docs/access-log.md");
    let found: BTreeSet<String> =
        rows(&text).iter().filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect();
    assert_eq!(wanted, found, "docs/access-log.md");
}

/// Returns the codes that have a row in a chapter of docs/explain.md.
fn explained(chapter: &str) -> Vec<String> {
    let text = read("docs/explain.md");
    let (_, after) = text.split_once(&format!("]({chapter})")).unwrap();
    let chapter = after.split("\n## ").next().unwrap_or(after);
    let first = |row: &String| row.split('`').nth(1).map(str::to_owned);
    let mut codes: Vec<String> = rows(chapter).iter().filter_map(first).collect();
    codes.sort();
    codes
}

#[test]
fn every_code_has_its_usual_causes_and_explain_knows_every_code() {
    let sorted = |codes: Vec<&str>| {
        let mut codes: Vec<String> = codes.into_iter().map(str::to_owned).collect();
        codes.sort();
        codes
    };
    let of_requests = Denial::ALL.iter().map(|d| d.code()).collect();
    let of_certificates = Unfit::ALL.iter().map(|u| u.code()).collect();
    let of_grants = GrantDenial::ALL.iter().map(|d| d.code()).collect();
    let of_files = ConfigCode::ALL.iter().map(|code| code.as_str()).collect();
    for (chapter, codes) in [
        ("denials.md", sorted(of_requests)),
        ("certificates.md", sorted(of_certificates)),
        ("token-service.md", sorted(of_grants)),
        ("configuration.md", sorted(of_files)),
    ] {
        assert_eq!(explained(chapter), codes, "docs/explain.md, {chapter}");
    }
    let known = sitegate::cli::explain::entries();
    let more = BundleRefusal::ALL.iter().map(|r| r.code());
    let more = more.chain(SiteDenial::ALL.iter().map(|d| d.code()));
    let more = more.chain(ConfigCode::ALL.iter().map(|code| code.as_str()));
    let more = more.chain(StoreFault::ALL.iter().map(|fault| fault.code()));
    let more = more.chain(StepRefusal::ALL.iter().map(|r| r.code()));
    let more = more.chain(Why::ALL.iter().map(|why| why.as_str()));
    let (mut keys, text) = (crate::configuration::keys(), read("docs/configuration.md"));
    // A table with its own heading is a chapter, not a row.
    keys.retain(|key| !text.contains(&format!("[site_system.{key}]")));
    for code in more.chain(keys.iter().map(String::as_str)) {
        assert!(known.iter().any(|entry| entry.code == code), "explain does not know {code}");
    }
    for d in Denial::ALL {
        let of_it = |e: &&sitegate::cli::explain::PageEntry| {
            e.code == d.code() && e.page == "docs/denials.md"
        };
        let entry = known.iter().find(of_it).unwrap();
        assert!(entry.causes.is_some() && entry.says.iter().any(|(_, cell)| cell == d.title()));
    }
}

/// Returns the words in a text that look like our metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("sitegate_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn rules_dashboard_and_documents_name_only_metrics_that_exist() {
    let names = names();
    let exists = |word: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|s| word.strip_suffix(s));
        names.contains(word) || base.is_some_and(|base| names.contains(base))
    };
    let documents = files("docs", &["md"]);
    let shipped = ["config/prometheus.rules.yml", "config/grafana-dashboard.json", "README.md"];
    for path in shipped.iter().map(|p| (*p).to_owned()).chain(documents) {
        for word in metrics_in(&read(&path)) {
            assert!(exists(&word), "{path}: there is no metric {word}");
        }
    }
}

fn documents() -> Vec<String> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    let all = top.iter().map(|p| (*p).to_owned()).chain(files("docs", &["md"]));
    all.chain(["certs/README.md".to_owned()]).collect()
}

/// Returns the code in a document: fenced lines and inline code.
fn code_in(text: &str) -> Vec<String> {
    let (mut found, mut fenced, mut console) = (Vec::new(), false, false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            console = line.contains("console");
        } else if fenced && console && !line.trim_start().starts_with("$ ") {
            // Command output is no code.
        } else if fenced {
            found.push(line.trim().trim_start_matches("$ ").to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Returns the words of a command of sitegate or sitegate-lab in a line of code, without the shell
/// syntax around it.
fn call(code: &str) -> Option<Vec<&str>> {
    let code = code.strip_prefix("sudo ").unwrap_or(code);
    let code = code.strip_prefix("/usr/local/bin/").unwrap_or(code);
    let (program, rest) = code.split_once(' ')?;
    let program = ["sitegate", "sitegate-lab"].into_iter().find(|known| *known == program)?;
    let words =
        rest.split_whitespace().take_while(|w| !matches!(*w, "|" | ">" | "<" | "#" | "&&" | "&"));
    Some(std::iter::once(program).chain(words).collect())
}

#[test]
fn every_command_in_the_documents_exists() {
    let mut checked = 0;
    let shipped = ["config/sitegate.service", "config/gateway.toml", "Dockerfile"];
    let mut all: Vec<(String, String)> = Vec::new();
    for path in documents() {
        all.extend(code_in(&read(&path)).into_iter().map(|code| (path.clone(), code)));
    }
    for path in shipped {
        let calls = read(path);
        for line in calls.lines() {
            if let Some(at) = line.find("sitegate check").or_else(|| line.find("sitegate run")) {
                all.push((path.to_owned(), line.get(at..).unwrap_or_default().to_owned()));
            }
        }
    }
    for (path, code) in all {
        let Some(words) = call(&code) else { continue };
        checked += 1;
        let program = if words[0] == "sitegate" { Cli::command() } else { LabCli::command() };
        if let Err(error) = program.try_get_matches_from(&words) {
            // A command group on its own prints its help, which is intended.
            let meant = matches!(
                error.kind(),
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    | ErrorKind::DisplayHelp
                    | ErrorKind::DisplayVersion
            );
            assert!(meant, "{path}: '{code}'\n{error}");
        }
    }
    assert!(checked > 20, "only {checked} commands found in the documents");
    assert!(Cli::command().try_get_matches_from(call("sitegate nothing x").unwrap()).is_err());
}

#[test]
fn every_make_target_in_the_documents_exists() {
    let makefile = read("Makefile");
    let mut named = BTreeSet::new();
    for path in documents() {
        for code in code_in(&read(&path)) {
            let words: Vec<&str> = code.split_whitespace().collect();
            if let ["make", target, ..] = words.as_slice() {
                assert!(
                    makefile.lines().any(|line| line.starts_with(&format!("{target}:"))),
                    "{path}: the Makefile has no target {target}"
                );
                named.insert((*target).to_owned());
            }
        }
    }
    assert!(named.contains("demo") && named.contains("test"), "README.md names demo and test");
    for target in ["demo", "test"] {
        let rule = makefile.lines().find(|line| line.starts_with(&format!("{target}:"))).unwrap();
        assert!(rule.contains("setup"), "make {target} must set up what it needs: {rule}");
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    for path in documents() {
        let text = read(&path);
        let folder = root().join(&path).parent().unwrap().to_owned();
        for (at, _) in text.match_indices("](") {
            let target =
                text.get(at + 2..).unwrap_or_default().split(')').next().unwrap_or_default();
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap_or(target);
            assert!(folder.join(file).exists(), "{path}: the link {target} leads nowhere");
        }
    }
}

#[test]
fn every_room_is_on_the_map() {
    let map = read("ARCHITECTURE.md");
    for source in product() {
        let room = source.room();
        let named = [format!("{room}/"), format!("{room}.rs")];
        assert!(named.iter().any(|name| map.contains(name)), "ARCHITECTURE.md lacks {room}");
    }
}

#[test]
fn every_alert_has_its_place_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let rules = read("config/prometheus.rules.yml");
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 9, "{alerts:?}");
    for alert in alerts {
        assert!(runbook.contains(&format!("`{alert}`")), "docs/runbook.md lacks {alert}");
    }
}

/// The code of all crates and their tests.
fn all_code() -> String {
    let folders = ["src", "lab", "tests"].iter().flat_map(|folder| files(folder, &["rs"]));
    folders.map(|path| read(&path)).collect()
}

#[test]
fn every_test_and_file_that_the_threat_model_names_exists() {
    let text = read("docs/threat-model.md");
    let all = all_code();
    let (mut tests, mut faults) = (0, Vec::new());
    for code in code_in(&text) {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if code.starts_with("src/") {
            if !root().join(&code).exists() {
                faults.push(format!("there is no {code}"));
            }
        } else if code.bytes().all(word) && code.matches('_').count() > 2 {
            tests += 1;
            if !all.contains(&format!("fn {code}(")) {
                faults.push(format!("there is no test {code}"));
            }
        }
    }
    assert!(faults.is_empty(), "docs/threat-model.md: {faults:#?}");
    assert!(tests > 50, "only {tests} tests are named in docs/threat-model.md");
}

#[test]
fn decision_records_name_what_exists() {
    let all = all_code();
    let mut faults = Vec::new();
    for record in files("docs/decisions", &["md"]) {
        for code in code_in(&read(&record)) {
            let is_path = ["src/", "tests/", "lab/"].iter().any(|folder| code.starts_with(folder));
            let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            let is_name = code.bytes().all(word) && code.matches('_').count() > 2;
            if (is_path && !root().join(&code).exists()) || (is_name && !all.contains(&code)) {
                faults.push(format!("{record}: there is no {code}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_coverage_row_names_a_test_or_a_reason() {
    let text = read("docs/coverage.md");
    let all = all_code();
    // Only tests stand in backticks there, so that a script can read the list.
    for test in code_in(&text) {
        assert!(all.contains(&format!("fn {test}(")), "docs/coverage.md: there is no test {test}");
    }
    let mut rows = 0;
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| On the")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{row}");
        assert!(cells[2].contains('`') || cells[1].starts_with("Cannot be:"), "{row}");
        rows += 1;
    }
    assert!(rows > 40, "only {rows} rows");
}
