//! `site audit`

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{ConfigArg, Format, store};
use crate::clock::Clock;
use crate::config::Span;
use crate::site::store::{Action, AuditFilter, AuditRecord, Store};

/// How many lines are read at once.
const PAGE: u32 = 10_000;

/// Which lines.
#[derive(Args, Debug)]
pub(super) struct Search {
    /// How many lines at most, the latest first.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Only lines about this device, token, user, gateway or other id.
    #[arg(long)]
    subject: Option<String>,
    /// Only this action, as "block.added".
    #[arg(long)]
    action: Option<String>,
    /// Only what this user or client has done.
    #[arg(long)]
    actor: Option<String>,
    /// Only lines since this time, as "2026-11-01T00:00:00Z", or of a last period, as "8h" or "3d".
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only lines before this time, or before a last period.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

/// A time, or a duration before now.
#[derive(Clone, Copy, Debug)]
enum Moment {
    At(Timestamp),
    Ago(SignedDuration),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Moment::At(at));
        }
        let span = Span::parse(text).ok_or_else(|| {
            "not a time as \"2026-11-01T00:00:00Z\" or a duration as \"3d\"".to_owned()
        })?;
        SignedDuration::try_from(span.0).map(Moment::Ago).map_err(|error| error.to_string())
    }
}

impl Moment {
    fn before(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Moment::At(at) => Some(at),
            Moment::Ago(span) => now.checked_sub(span).ok(),
        }
    }
}

#[derive(Serialize)]
struct AuditedLine {
    id: i64,
    at: Timestamp,
    actor: String,
    action: &'static str,
    subject: String,
    detail: String,
}

pub(super) fn audit(
    config: &ConfigArg,
    search: &Search,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let now = Clock::system().now();
    let action = search.action.as_deref().map(|name| {
        let known = || Action::ALL.iter().map(|action| action.as_str()).collect::<Vec<_>>();
        Action::from_name(name).with_context(|| {
            format!("there is no action '{name}'; actions: {}", known().join(", "))
        })
    });
    let filter = AuditFilter {
        action: action.transpose()?,
        subject: search.subject.as_deref(),
        actor: search.actor.as_deref(),
        since: search.since.and_then(|moment| moment.before(now)),
        until: search.until.and_then(|moment| moment.before(now)),
    };
    let lines = store::with_present(&loaded.config, async |store: Store, _| {
        let mut lines: Vec<AuditedLine> = Vec::new();
        loop {
            let left = search.limit.saturating_sub(u32::try_from(lines.len()).unwrap_or(u32::MAX));
            let before = lines.last().map(|line| line.id);
            let page = store.audit(filter, left.min(PAGE), before).await?;
            let is_last = page.len() < PAGE as usize;
            lines.extend(page.into_iter().map(line));
            if is_last {
                return Ok(lines);
            }
        }
    })?;
    match format {
        Format::Json => super::print_json(&lines)?,
        Format::Text => {
            let shown = |line: &AuditedLine| {
                let AuditedLine { at, actor, action, subject, detail, .. } = line;
                format!("{at}  {action:<16}  {subject}  {detail}  ({actor})\n")
            };
            super::print(&lines.iter().map(shown).collect::<String>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(record: AuditRecord) -> AuditedLine {
    let AuditRecord { id, at, actor, action, subject, detail } = record;
    AuditedLine { id, at, actor, action: action.as_str(), subject, detail }
}
