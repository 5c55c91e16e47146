//! The command line of `sitegate-lab`: one file for each command, from words typed to a call.
//!
//! Writes data and returns exit codes as sitegate's own commands do.

mod backend;
mod client;
mod demo;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use rustls::crypto::CryptoProvider;
use sitegate::config::Span;

/// Simulated site systems and clients, and the demonstration of sitegate.
#[derive(Debug, Parser)]
#[command(name = "sitegate-lab", version = sitegate::VERSION, about, max_term_width = 100)]
pub struct LabCli {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Show what sitegate does: simulated site systems, a gateway, and every step of the way.
    Demo(demo::Args),
    /// Run a simulated site system, to put a gateway in front of it.
    Backend(backend::Args),
    /// Ask a gateway as clients do: one through all that clients do, or a fleet as a load.
    Client(client::Args),
}

/// Runs the command.
///
/// # Errors
/// Why it failed.
pub fn dispatch(cli: LabCli, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    match cli.command {
        LabCommand::Demo(args) => demo::run(args, provider),
        LabCommand::Backend(args) => backend::run(args),
        LabCommand::Client(args) => client::run(args, provider),
    }
}

fn duration(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "write a number and s, m, h or d".to_owned())
}
