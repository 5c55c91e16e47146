//! `site devices`, `site block`, `site unblock`, `site audit`

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::wrap::plain;
use super::{ConfigArg, Format, approve, store};
use crate::config::Config;
use crate::site::store::{Blocked, Device, DeviceBlock, DeviceFilter, DeviceKey, Store};

/// How many rows one command shows unless it is told otherwise.
const ROWS: u32 = 1_000;

/// Which devices are listed.
#[derive(Debug, clap::Args)]
pub(super) struct WhichDevices {
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
struct DeviceRow {
    device: String,
    state: &'static str,
    via: &'static str,
    registered: Timestamp,
    renewed: Option<Timestamp>,
    entra: Option<String>,
    block_reason: Option<String>,
    keys: Vec<DeviceKeyRow>,
    #[serde(skip)]
    waiting: Vec<String>,
}

#[derive(Serialize)]
struct DeviceKeyRow {
    thumbprint: String,
    added: Timestamp,
    waits: bool,
    /// What vouched for the client: `bulk-token`, `entra` or `certificate`.
    via: Option<&'static str>,
    /// The id of the bulk token, the Entra device or the certificate.
    voucher: Option<String>,
    address: Option<IpAddr>,
    client_name: Option<String>,
}

impl DeviceKeyRow {
    fn of(key: DeviceKey) -> Self {
        let origin = key.origin;
        DeviceKeyRow {
            thumbprint: key.thumbprint,
            added: key.added,
            waits: !key.active,
            via: origin.as_ref().map(|origin| origin.via.as_str()),
            voucher: origin.as_ref().and_then(|origin| origin.voucher()).map(str::to_owned),
            address: origin.as_ref().and_then(|origin| origin.address),
            client_name: origin.and_then(|origin| origin.client),
        }
    }
}

impl DeviceRow {
    fn of(device: Device) -> Self {
        let waits = !device.approved || device.keys.iter().any(|key| !key.active);
        let state = match (device.blocked.is_some(), waits) {
            (true, _) => "blocked",
            (false, true) => "waits",
            (false, false) => "approved",
        };
        DeviceRow {
            waiting: device.waiting().map(approve::waits).collect(),
            state,
            via: device.via.as_str(),
            registered: device.registered,
            renewed: device.renewed,
            entra: device.entra,
            block_reason: device.block_reason,
            keys: device.keys.into_iter().map(DeviceKeyRow::of).collect(),
            device: device.id,
        }
    }
}

pub(super) fn list(
    config: &ConfigArg,
    which: &WhichDevices,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let filter = DeviceFilter { pending: which.pending, blocked: which.blocked };
    let rows: Vec<DeviceRow> = store::with_present(&loaded.config, async |store: Store, _| {
        let found = store.devices(filter, which.limit, which.after.as_deref()).await?;
        Ok(found.into_iter().map(DeviceRow::of).collect())
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
                for key in &row.waiting {
                    writeln!(text, "    {key}")?;
                }
            }
            super::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Block a device, and the bulk tokens that let it in if that is wished; and say what it did.
pub(super) fn block_device(
    config: &ConfigArg,
    device: &str,
    tokens: bool,
    reason: Option<&str>,
    waits: bool,
) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    store::with(&loaded.config, async |store: Store, now| {
        let done = store.block_device(device, tokens, reason, &store::actor(), now).await?;
        anstream::eprint!("{}", plain(&told_block(&done, tokens)));
        where_in_force(&store, &loaded.config, waits).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is done to a block.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) unblock: bool,
    /// Whether to wait until it is in force, and say where.
    pub(super) waits: bool,
}

fn told_block(done: &DeviceBlock, tokens: bool) -> String {
    let mut told =
        if done.changed { "blocked\n".to_owned() } else { "was blocked already\n".to_owned() };
    for device in &done.devices {
        told.push_str(&format!(
            "    device {device} is blocked, with its keys, certificates and Entra id\n"
        ));
    }
    for gone in &done.dropped {
        let (key, device) = (&gone.key, &gone.device);
        told.push_str(&format!("    key {key} no longer waits for {device}\n"));
    }
    if done.devices.is_empty() && !done.dropped.is_empty() {
        told.push_str("    no device is blocked: only pending keys match\n");
    }
    if tokens && done.bulk_tokens.is_empty() {
        told.push_str("    no bulk token is known by which it came, and none is blocked\n");
    }
    for token in &done.bulk_tokens {
        let others = match token.others {
            0 => "no other device".to_owned(),
            1 => "1 other device".to_owned(),
            n => format!("{n} other devices"),
        };
        let state = match (token.blocked, tokens) {
            (true, true) => "is blocked with it",
            (true, false) => "is blocked",
            (false, _) => "still registers new devices: --with-bulk-token blocks it too",
        };
        told.push_str(&format!(
            "    it came by bulk token {}, as {others} did; that token {state}\n",
            token.id
        ));
    }
    told
}

/// Block a user, or take a block back.
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
        let changed = if unblock {
            store.unblock(what, &actor, now).await?
        } else {
            store.block(what, reason, &actor, now).await?
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
        where_in_force(&store, config, waits).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Wait until a change is in force, and say where it is and where it is not.
async fn where_in_force(store: &Store, config: &Config, waits: bool) -> anyhow::Result<()> {
    if waits {
        for line in super::propagation::tell(store, config).await? {
            anstream::eprintln!("    {line}");
        }
    }
    Ok(())
}
