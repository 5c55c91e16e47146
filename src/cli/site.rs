//! `site`: what concerns the site's own certificates and keys, devices and gateways

use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use rustls::crypto::CryptoProvider;

use super::{
    ConfigArg, Format, approve, bundle, certificates, devices, gateways, restored, rollover,
};
use crate::site::store::Blocked;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the site's roots and the certificates it has issued.
    Show {
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// List the devices that have registered.
    Devices {
        #[command(flatten)]
        which: devices::Which,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Let devices in that wait for approval, each by one key that waits. Keys that the device has
    /// worked with are retired; other keys that wait go on waiting.
    Approve {
        #[command(flatten)]
        which: approve::Which,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Drop a key that waits for approval. To keep it from coming again, block its thumbprint.
    Reject {
        /// The device.
        #[arg(value_name = "GUID:…")]
        device: String,
        /// The thumbprint of the key, as 'site devices --pending' shows it.
        #[arg(long, value_name = "THUMBPRINT", allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Block a device with all that it is known by, or a user, and say where that is in force. A key
    /// that only waits is dropped alone, and the device it claims to be works on.
    Block {
        #[command(flatten)]
        who: Who,
        /// Block the bulk registration tokens that let the device in as well: it could come back as
        /// a new device by them.
        #[arg(long, requires = "device")]
        with_bulk_token: bool,
        /// Why, for whoever asks later.
        #[arg(long)]
        reason: Option<String>,
        /// Do not wait until it is in force.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Take a block back.
    Unblock {
        #[command(flatten)]
        who: Who,
        /// Do not wait until it is in force.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show what a restored copy of the store had forgotten and is blocked all the same, or forget it.
    Restored {
        /// Unblock all of it: the copy is right.
        #[arg(long)]
        forget: bool,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show who did what, the latest first.
    Audit {
        /// How many lines at most.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Run a site server: a gateway whose configuration has the role site-server.
    Serve(ConfigArg),
    /// Let a gateway on another host join the site: writes a token that is good once.
    JoinToken {
        #[command(flatten)]
        join: gateways::Join,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Gateways on other hosts.
    #[command(subcommand)]
    Gateway(gateways::GatewayCommand),
    /// What the site server tells its gateways.
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// What concerns one of the site's own certificates.
    Certificate {
        #[command(subcommand)]
        command: certificates::Command,
    },
    /// Roll over the root, the role authority, or a key: publish, switch, retire.
    Rollover(rollover::Command),
    /// Write the site's root, for clients to trust; while it is rolled over, both.
    ExportRoot {
        /// PEM, DER as Windows imports it, or PKCS#7.
        #[arg(long, value_enum, default_value_t)]
        format: certificates::RootFormat,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Who is blocked.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Who {
    /// A device: GUID: and a GUID, its Entra id, or the thumbprint of one of its keys (after -- if
    /// that begins with a hyphen).
    device: Option<String>,
    /// A user, as tokens name them.
    #[arg(long)]
    user: Option<String>,
}

impl Who {
    fn blocked(&self) -> Blocked<'_> {
        match (&self.device, &self.user) {
            (Some(device), _) => Blocked::Device(device),
            (None, user) => Blocked::User { issuer: None, id: user.as_deref().unwrap_or_default() },
        }
    }
}

pub(super) fn run(command: Command, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Show { format, config } => certificates::show(&config, format, provider),
        Command::Devices { which, format, config } => devices::list(&config, &which, format),
        Command::Approve { which, config } => approve::approve(&config, &which),
        Command::Reject { device, key, config } => approve::reject(&config, &device, &key),
        Command::Block { who, with_bulk_token, reason, no_wait, config } => {
            let change = devices::Change { unblock: false, waits: !no_wait };
            match &who.device {
                Some(device) => {
                    let how = (with_bulk_token, reason.as_deref());
                    devices::block_device(&config, device, how, change.waits)
                }
                None => devices::block(&config, &who.blocked(), reason.as_deref(), change),
            }
        }
        Command::Unblock { who, no_wait, config } => {
            let change = devices::Change { unblock: true, waits: !no_wait };
            devices::block(&config, &who.blocked(), None, change)
        }
        Command::Restored { forget, format, config } => restored::run(&config, forget, format),
        Command::Audit { limit, format, config } => devices::audit(&config, limit, format),
        Command::Serve(config) => gateways::serve(config, provider),
        Command::JoinToken { join, config } => gateways::join_token(&config, &join, provider),
        Command::Gateway(command) => gateways::gateway(&command, provider),
        Command::Bundle(command) => bundle::run(&command),
        Command::ExportRoot { format, config } => {
            certificates::export_root(&config, format, provider)
        }
        Command::Certificate { command } => certificates::run(command, provider),
        Command::Rollover(command) => rollover::run(command, provider),
    }
}
