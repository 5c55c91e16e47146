//! `site devices`, `site approve`, `site block`, `site unblock`, `site audit`

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;
use serde::Serialize;

use super::{ConfigArg, Format, store};
use crate::config::Config;
use crate::site::store::{
    Approved, AuditFilter, AuditRecord, Blocked, Device, DeviceFilter, Store,
};

/// How many rows one command shows unless it is told otherwise.
const ROWS: u32 = 1_000;

/// Which devices are listed.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Only those that wait for approval.
    #[arg(long)]
    pending: bool,
    /// Only those that are blocked.
    #[arg(long)]
    blocked: bool,
    /// How many at most.
    #[arg(long, default_value_t = ROWS)]
    limit: u32,
    /// Begin after this device.
    #[arg(long, value_name = "GUID:…")]
    after: Option<String>,
}

#[derive(Serialize)]
struct Row {
    device: String,
    state: &'static str,
    via: &'static str,
    registered: Timestamp,
    renewed: Option<Timestamp>,
    entra: Option<String>,
    block_reason: Option<String>,
    keys: Vec<KeyRow>,
}

#[derive(Serialize)]
struct KeyRow {
    thumbprint: String,
    added: Timestamp,
    waits: bool,
}

impl Row {
    fn of(device: Device) -> Self {
        let waits = !device.approved || device.keys.iter().any(|key| !key.active);
        let state = match (device.blocked.is_some(), waits) {
            (true, _) => "blocked",
            (false, true) => "waits",
            (false, false) => "approved",
        };
        let key = |key: crate::site::store::DeviceKey| KeyRow {
            thumbprint: key.thumbprint,
            added: key.added,
            waits: !key.active,
        };
        Row {
            state,
            via: device.via.as_str(),
            registered: device.registered,
            renewed: device.renewed,
            entra: device.entra,
            block_reason: device.block_reason,
            keys: device.keys.into_iter().map(key).collect(),
            device: device.id,
        }
    }
}

pub(super) fn list(config: &ConfigArg, which: &Which, format: Format) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let filter = DeviceFilter { pending: which.pending, blocked: which.blocked };
    let rows: Vec<Row> = store::with_present(&loaded.config, async |store: Store, _| {
        let found = store.devices(filter, which.limit, which.after.as_deref()).await?;
        Ok(found.into_iter().map(Row::of).collect())
    })?;
    match format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => {
            let mut text = String::new();
            for row in &rows {
                let (device, state, via) = (&row.device, row.state, row.via);
                write!(text, "{device}  {state:<8}  {via:<11}  {}", row.registered)?;
                if let Some(reason) = &row.block_reason {
                    write!(text, "  {reason}")?;
                }
                text.push('\n');
                for key in row.keys.iter().filter(|key| key.waits) {
                    writeln!(text, "    key {} waits for approval", key.thumbprint)?;
                }
            }
            super::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn approve(
    config: &ConfigArg,
    devices: &[String],
    all: bool,
) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    if devices.is_empty() != all {
        bail!("name devices, or say --all-pending");
    }
    let missed = store::with_present(&loaded.config, async |store: Store, now| {
        let mut wanted = devices.to_vec();
        if all {
            let filter = DeviceFilter { pending: true, blocked: false };
            let found = store.devices(filter, u32::MAX, None).await?;
            wanted = found.into_iter().filter(|d| d.blocked.is_none()).map(|d| d.id).collect();
        }
        let mut missed = 0;
        for id in wanted {
            let told = match store.approve(&id, &store::actor(), now).await? {
                Approved::Yes(_) => "approved",
                Approved::AlreadyApproved => "was approved already",
                Approved::Unknown => "is not registered",
                Approved::Blocked => "is blocked: unblock it first",
            };
            missed += usize::from(!told.contains("approved"));
            anstream::eprintln!("{id} {told}");
        }
        Ok(missed)
    })?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

/// What is done to a block.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) unblock: bool,
    /// Whether to wait until it is in force, and say where.
    pub(super) waits: bool,
}

/// Block or unblock a device or a user.
pub(super) fn block(
    config: &ConfigArg,
    what: &Blocked<'_>,
    reason: Option<&str>,
    change: Change,
) -> anyhow::Result<ExitCode> {
    match super::load(config) {
        Ok(loaded) => block_in(&loaded.config, what, reason, change),
        Err(code) => Ok(code),
    }
}

/// As [`block`], where the configuration is read already.
pub(super) fn block_in(
    config: &Config,
    what: &Blocked<'_>,
    reason: Option<&str>,
    Change { unblock, waits }: Change,
) -> anyhow::Result<ExitCode> {
    store::with(config, async |store: Store, now| {
        let actor = store::actor();
        let changed = match unblock {
            true => store.unblock(what, &actor, now).await?,
            false => store.block(what, reason, &actor, now).await?,
        };
        anstream::eprintln!(
            "{}",
            match (unblock, changed) {
                (false, true) => "blocked",
                (false, false) => "was blocked already",
                (true, true) => "unblocked",
                (true, false) => "was not blocked",
            }
        );
        if waits {
            for line in super::heard::tell(&store, config).await? {
                anstream::eprintln!("  {line}");
            }
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Audited {
    id: i64,
    at: Timestamp,
    actor: String,
    action: &'static str,
    subject: String,
    detail: String,
}

pub(super) fn audit(config: &ConfigArg, limit: u32, format: Format) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let records = store::with_present(&loaded.config, async |store: Store, _| {
        Ok(store.audit(AuditFilter::default(), limit, None).await?)
    })?;
    let row = |r: AuditRecord| Audited {
        id: r.id,
        at: r.at,
        actor: r.actor,
        action: r.action.as_str(),
        subject: r.subject,
        detail: r.detail,
    };
    let rows: Vec<Audited> = records.into_iter().map(row).collect();
    match format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => {
            let mut text = String::new();
            for row in &rows {
                let Audited { at, actor, action, subject, detail, .. } = row;
                writeln!(text, "{at}  {action:<16}  {subject}  {detail}  ({actor})")?;
            }
            super::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
