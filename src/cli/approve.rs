//! `site approve`, `site reject`: which of the keys that wait are let in

use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;

use super::wrap::plain;
use super::{ConfigArg, store};
use crate::site::store::{
    Approval, Approved, Device, DeviceFilter, DeviceKey, RejectedKeys, Store, Via,
};

/// What is approved.
#[derive(Debug, clap::Args)]
pub(super) struct WhichKeys {
    /// The devices. If more than one key waits for a device, choose one with --key.
    #[arg(value_name = "GUID:…")]
    devices: Vec<String>,
    /// The thumbprint of the key to approve, as 'site devices --pending' shows it.
    #[arg(
        long,
        value_name = "THUMBPRINT",
        // One thumbprint in 64 begins with a hyphen.
        allow_hyphen_values = true,
        conflicts_with = "all_pending"
    )]
    key: Option<String>,
    /// Keep the device's present keys in use. By default they are retired, because a reinstalled
    /// machine no longer has them.
    #[arg(long)]
    keep_keys: bool,
    /// All new devices with exactly one pending key. Devices with several pending keys, and devices
    /// in use that another key claims, are listed and not changed.
    #[arg(long)]
    all_pending: bool,
}

pub(super) fn approve(config: &ConfigArg, which: &WhichKeys) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    if which.devices.is_empty() != which.all_pending {
        bail!("name devices, or use --all-pending");
    }
    if which.key.is_some() && which.devices.len() != 1 {
        bail!("--key is a key of one device: name that device alone");
    }
    let missed = store::with_present(&loaded.config, async |store: Store, now| {
        let mut wanted = which.devices.clone();
        if which.all_pending {
            let filter = DeviceFilter { pending: true, blocked: false };
            let found = store.devices(filter, u32::MAX, None).await?;
            wanted = found.into_iter().filter(|d| d.blocked.is_none()).map(|d| d.id).collect();
        }
        let mut missed = 0;
        for id in wanted {
            missed += usize::from(!approve_one(&store, &id, which, now).await?);
        }
        Ok(missed)
    })?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

/// Approve the key that was named, or the only one that waits: the one that is shown here, so that
/// no other key can come between looking and approving. `false` if the device was not let in.
async fn approve_one(
    store: &Store,
    id: &str,
    which: &WhichKeys,
    now: Timestamp,
) -> anyhow::Result<bool> {
    let Some(device) = store.device(id).await? else {
        anstream::eprintln!("{} is not registered", plain(id));
        return Ok(false);
    };
    if device.blocked.is_some() {
        anstream::eprintln!("{} is blocked: unblock it first", device.id);
        return Ok(false);
    }
    let only = device.waiting().next().map(|key| key.thumbprint.as_str());
    let Some(key) = which.key.as_deref().or(only) else {
        anstream::eprintln!("{} was approved already", device.id);
        return Ok(true);
    };
    if which.all_pending && device.approved {
        // Its key would be retired for one that nobody has looked at.
        anstream::eprintln!(
            "{} has a key in use, and another key claims it: approve it by its id",
            device.id
        );
        tell_waiting(&device);
        return Ok(false);
    }
    let approval = Approval { key, alone: which.key.is_none(), keep: which.keep_keys };
    let told = match store.approve(&device.id, &approval, &store::actor(), now).await? {
        Approved::Yes { device, retired } => {
            tell_approved(&device, key, &retired);
            return Ok(true);
        }
        Approved::AlreadyApproved => {
            anstream::eprintln!("{} was approved already, with key {}", device.id, plain(key));
            return Ok(true);
        }
        Approved::Unknown => "is not registered any more",
        Approved::Blocked => "is blocked, or that key is: unblock it first",
        Approved::NotWaiting => "has no such pending key",
        Approved::Several => "is claimed by more than one key: choose one with --key",
    };
    anstream::eprintln!("{} {told}", device.id);
    // As it is now: another key may have come since.
    let device = store.device(&device.id).await?.unwrap_or(device);
    tell_waiting(&device);
    Ok(false)
}

fn tell_waiting(device: &Device) {
    for key in device.waiting() {
        anstream::eprintln!("    {}", plain(&waits(key)));
    }
}

fn tell_approved(device: &Device, key: &str, retired: &[String]) {
    anstream::eprintln!("{} approved with key {}", device.id, plain(key));
    if let Some(key) = device.key(key) {
        anstream::eprintln!("    it came {}", plain(&came(key)));
    }
    for thumbprint in retired {
        anstream::eprintln!("    key {thumbprint} is retired");
    }
    for key in device.waiting() {
        anstream::eprintln!("    still, {}", plain(&waits(key)));
    }
}

pub(super) fn reject(config: &ConfigArg, device: &str, key: &str) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(config) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let answer = store::with_present(&loaded.config, async |store: Store, now| {
        Ok(store.reject(device, key, &store::actor(), now).await?)
    })?;
    let (told, code) = match answer {
        RejectedKeys::Yes { forgotten: false } => ("rejected", ExitCode::SUCCESS),
        RejectedKeys::Yes { forgotten: true } => (
            "rejected; no other key was pending, so the device's record was removed",
            ExitCode::SUCCESS,
        ),
        RejectedKeys::Unknown => ("not rejected: no such device", ExitCode::from(super::FAILED)),
        RejectedKeys::NotWaiting => {
            ("not rejected: the device has no such pending key", ExitCode::from(super::FAILED))
        }
    };
    anstream::eprintln!("{told}");
    Ok(code)
}

/// A key that waits, in a line.
pub(super) fn waits(key: &DeviceKey) -> String {
    format!("key {} waits for approval: it came {}", key.thumbprint, came(key))
}

fn came(key: &DeviceKey) -> String {
    let mut told = key.added.to_string();
    let Some(origin) = &key.origin else {
        return told + ", with an unknown credential";
    };
    let voucher = match origin.via {
        Via::BulkToken => "bulk token",
        Via::Entra => "Entra device",
        Via::Certificate => "certificate",
    };
    told.push_str(&format!(" by {voucher} {}", origin.voucher().unwrap_or("-")));
    match origin.address {
        Some(address) => told.push_str(&format!(" from {address}")),
        None => told.push_str(" from an unknown address"),
    }
    if let Some(name) = &origin.client {
        // In quotes, so that a name cannot pass for words of ours.
        told.push_str(&format!(" and calls itself {name:?}"));
    }
    told
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;

    #[test]
    fn a_thumbprint_may_begin_with_a_hyphen() {
        for command in ["approve", "reject"] {
            for key in ["-lJee3tbkpNB", "--Jee3tbkpNB", "-hJee3tbkpNB"] {
                let typed = ["sitegate", "site", command, "GUID:1", "--key", key];
                let told = format!("{:?}", Cli::try_parse_from(typed).unwrap());
                assert!(told.contains(&format!("{key:?}")), "{told}");
            }
        }
    }
}
