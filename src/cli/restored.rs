//! `site restored`: what a restored copy of the store had forgotten, and is blocked all the same.

use std::fmt::Write;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::{ConfigArg, Format, store};
use crate::site::store::{BlockEntry, BlockedOwned, Store};

#[derive(Serialize)]
struct ForgottenRow {
    kind: &'static str,
    id: String,
    issuer: Option<String>,
    before: Option<Timestamp>,
    since: Timestamp,
}

impl ForgottenRow {
    fn of(entry: BlockEntry) -> Self {
        let (kind, id, issuer, before) = match entry.what {
            BlockedOwned::Token { issuer, id } => ("token", id, Some(issuer), None),
            BlockedOwned::Device(id) => ("device", id, None, None),
            BlockedOwned::User { issuer, id } => ("user", id, issuer, None),
            BlockedOwned::IssuedBefore { issuer, before } => {
                ("issued-before", String::new(), Some(issuer), Some(before))
            }
        };
        ForgottenRow { kind, id, issuer, before, since: entry.at }
    }
}

pub(super) fn run(config: &ConfigArg, forget: bool, format: Format) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let rows: Vec<ForgottenRow> =
        store::with_present(&loaded.config, async |store: Store, now| {
            let found = store.recovered().await?;
            if forget {
                store.forget_recovered(&store::actor(), now).await?;
            }
            Ok(found.into_iter().map(ForgottenRow::of).collect())
        })?;
    match format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => {
            let mut text = String::new();
            for ForgottenRow { kind, id, issuer, before, since } in &rows {
                write!(text, "{kind:<13}  {id}")?;
                if let Some(before) = before {
                    write!(text, "{before}")?;
                }
                if let Some(issuer) = issuer {
                    write!(text, "  of {issuer}")?;
                }
                writeln!(text, "  kept since {since}")?;
            }
            super::print(&text)?;
        }
    }
    anstream::eprintln!(
        "{}",
        match (rows.len(), forget) {
            (0, _) => "no blocks are missing from a restored copy".to_owned(),
            (n, true) => format!("unblocked: {n}"),
            (n, false) => format!(
                "blocks that the restored copy of the store does not have, still in force: {n}; \
                 'sitegate site restored --forget' unblocks all, 'site unblock' and 'token \
                 unblock' one"
            ),
        }
    );
    Ok(ExitCode::SUCCESS)
}
