//! `site`: what concerns the site's own certificates and keys, devices and gateways

use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use rustls::crypto::CryptoProvider;

use super::{
    ConfigArg, Format, approve, audit, bundle, certificates, devices, gateways, restored, rollover,
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
        which: devices::WhichDevices,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Approve devices that wait for approval, each with one pending key. Previous keys of the
    /// device are retired; its other pending keys stay pending.
    Approve {
        #[command(flatten)]
        which: approve::WhichKeys,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Reject a key that waits for approval. To prevent another attempt, block its thumbprint.
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
    /// Block a device with its keys, certificates and Entra id, or a user, and report where the
    /// block is in force. A pending key is dropped alone; the device it claims is not blocked.
    Block {
        #[command(flatten)]
        who: Who,
        /// Also block the bulk registration tokens that registered the device: it could register
        /// again with them.
        #[arg(long, requires = "device")]
        with_bulk_token: bool,
        /// The reason, for the audit log.
        #[arg(long)]
        reason: Option<String>,
        /// Do not wait until it is in force.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Remove a block.
    Unblock {
        #[command(flatten)]
        who: Who,
        /// Do not wait until it is in force.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show blocks that a restored copy of the store does not have and that stay in force, or
    /// remove them.
    Restored {
        /// Remove all of these blocks: the restored copy is right.
        #[arg(long)]
        forget: bool,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show the audit log, latest first.
    Audit {
        #[command(flatten)]
        search: audit::Search,
        /// How to write it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Run a site server: a gateway whose configuration has the role site-server.
    Serve(ConfigArg),
    /// Let a gateway on another host join the site: writes a token that is valid once.
    JoinToken {
        #[command(flatten)]
        join: gateways::Join,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Gateways on other hosts.
    #[command(subcommand)]
    Gateway(gateways::GatewayCommand),
    /// The bundle that the site server sends to its gateways.
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// One of the site's own certificates.
    Certificate {
        #[command(subcommand)]
        command: certificates::Command,
    },
    /// Roll over the root, the role authority, or a key: publish, switch, retire.
    Rollover(rollover::Command),
    /// Write the site's root for clients to trust; during a rollover, both roots.
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
                    let reason = reason.as_deref();
                    devices::block_device(&config, device, with_bulk_token, reason, change.waits)
                }
                None => devices::block(&config, &who.blocked(), reason.as_deref(), change),
            }
        }
        Command::Unblock { who, no_wait, config } => {
            let change = devices::Change { unblock: true, waits: !no_wait };
            devices::block(&config, &who.blocked(), None, change)
        }
        Command::Restored { forget, format, config } => restored::run(&config, forget, format),
        Command::Audit { search, format, config } => audit::audit(&config, &search, format),
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
