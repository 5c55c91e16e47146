//! `doctor`

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use serde::Serialize;

use super::wrap::wrapped;
use super::{ConfigArg, Format};
use crate::app::{Finding, Severity, doctor};
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Serialize)]
struct FindingRow {
    id: &'static str,
    severity: Severity,
    about: String,
    title: &'static str,
    evidence: String,
    hint: &'static str,
}

impl FindingRow {
    fn of(finding: Finding) -> Self {
        let Finding { ailment, about, evidence } = finding;
        FindingRow {
            id: ailment.code(),
            severity: ailment.severity(),
            about,
            title: ailment.title(),
            evidence,
            hint: ailment.hint(),
        }
    }
}

pub(super) fn run(args: Args, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let file = super::load_strictly(&args.config);
    let is_broken = file.is_err();
    let config = match file.or_else(|code| super::in_force(&args.config, code)) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    let found = doctor(&config, provider, Clock::system())?;
    let rows: Vec<FindingRow> = found.into_iter().map(FindingRow::of).collect();
    match args.format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => super::print(&text(&rows)?)?,
    }
    let bad = is_broken || rows.iter().any(|row| row.severity == Severity::Error);
    Ok(if bad { ExitCode::from(super::FAILED) } else { ExitCode::SUCCESS })
}

fn text(rows: &[FindingRow]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for row in rows {
        let severity = row.severity.as_str().to_ascii_uppercase();
        writeln!(out, "{severity} {} ({})", row.id, row.about)?;
        out.push_str(&wrapped(row.title, 2));
        out.push_str(&wrapped(&row.evidence, 4));
        out.push_str(&wrapped(row.hint, 2));
        out.push('\n');
    }
    let count = |severity| rows.iter().filter(|row| row.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    writeln!(out, "{errors} errors, {warnings} warnings, {} notes", count(Severity::Note))?;
    Ok(out)
}
