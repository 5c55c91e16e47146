//! The command line: one file for each command, from words typed to a call.
//!
//! Data goes to standard output, talk to standard error. Exit codes: 0, 1 (failed, or findings), 2
//! (usage), 78 (bad configuration at start).

mod approve;
mod audit;
mod bundle;
mod cert;
mod certificates;
mod check;
mod csr;
mod devices;
mod diff;
mod doctor;
pub mod explain;
mod gateways;
pub mod health;
mod init;
mod issue;
mod pages;
mod propagation;
mod restored;
mod roles;
mod rollover;
mod run;
mod schema;
mod site;
mod status;
pub mod store;
mod token;
mod wrap;

pub use wrap::plain;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use rustls::crypto::CryptoProvider;

use crate::clock::Clock;
use crate::config::{self, ConfigErrors, Loaded};

/// Failed, or found something.
pub const FAILED: u8 = 1;
/// The process ended by a defect of its own: start it again (sysexits, EX_SOFTWARE).
pub const DEFECT: u8 = 70;
/// The configuration is bad: do not start again until it is mended (sysexits, EX_CONFIG).
pub const BAD_CONFIG: u8 = 78;

/// HTTPS in front of unchanged HTTP site systems.
#[derive(Debug, Parser)]
#[command(name = "sitegate", version = crate::VERSION, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Run(ConfigArg),
    /// Check a configuration and every file that it names, and report all errors.
    Check(ConfigArg),
    /// Certificates: what is served and why, what a file contains, and what would be served at
    /// another time.
    #[command(subcommand)]
    Cert(cert::Command),
    /// Write a shell's completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Look for problems with certificates, backends, issuers, clocks and this machine.
    Doctor(doctor::Args),
    /// Check whether a running gateway is ready; exits 0 if it is.
    Health(health::Args),
    /// Show what a running gateway serves, and why.
    Status(status::Args),
    /// Explain a code, or how a captured request would be handled, and why.
    Explain(explain::Args),
    /// Write a first configuration, without questions; existing files are not replaced.
    Init(init::Args),
    /// Write the manual page, or one page for each command into a folder.
    Man {
        /// The folder [default: only the first page, to standard output].
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Write the JSON schema of the configuration, for editors.
    Schema,
    /// Show what a configuration means.
    #[command(subcommand)]
    Config(roles::Command),
    /// The site's own certificate authority, devices and gateways.
    #[command(subcommand)]
    Site(site::Command),
    /// Tokens of the site.
    #[command(subcommand)]
    Token(token::Command),
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArg {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        env = "SITEGATE_CONFIG",
        default_value = "/etc/sitegate/gateway.toml"
    )]
    config: PathBuf,
}

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

/// Do what was typed.
///
/// # Errors
/// Why it could not be done.
pub fn dispatch(cli: Cli, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(arg) => run::run(arg, provider),
        Command::Check(arg) => check::run(arg, provider),
        Command::Cert(command) => cert::run(command, provider),
        Command::Completions { shell } => pages::completions(shell),
        Command::Init(args) => init::run(args),
        Command::Man { folder } => pages::man(folder.as_deref()),
        Command::Doctor(args) => doctor::run(args, provider),
        Command::Health(args) => health::run(args),
        Command::Status(args) => status::run(args),
        Command::Explain(args) => explain::run(args, provider),
        Command::Schema => schema::run(),
        Command::Config(command) => roles::run(command, provider),
        Command::Site(command) => site::run(command, provider),
        Command::Token(command) => token::run(command),
    }
}

/// Read a configuration, or tell everything that is wrong with it.
fn load_strictly(arg: &ConfigArg) -> Result<Loaded, ExitCode> {
    match config::load(&arg.config, Clock::system().now()) {
        Ok(loaded) => {
            if !loaded.warnings.errors.is_empty() {
                tell(&loaded.warnings);
            }
            Ok(loaded)
        }
        Err(errors) => {
            tell(&errors);
            let count = errors.errors.len();
            let word = if count == 1 { "error" } else { "errors" };
            anstream::eprintln!("sitegate: {count} {word} in {}", errors.path);
            Err(ExitCode::from(BAD_CONFIG))
        }
    }
}

/// The same; but where the file is broken or gone, the configuration that a process took last. Whoever
/// is called at night can see, and block, before the file is mended.
fn load(arg: &ConfigArg) -> Result<Loaded, ExitCode> {
    load_strictly(arg).or_else(|code| in_force(arg, code))
}

/// The configuration that a process took last, or this exit code.
fn in_force(arg: &ConfigArg, code: ExitCode) -> Result<Loaded, ExitCode> {
    let found = config::in_force::load(&arg.config, Clock::system().now());
    let (config, kept) = found.ok_or(code)?;
    anstream::eprintln!(
        "sitegate: using the configuration that was in force last, saved in {}",
        kept.display()
    );
    let (path, text) = (kept.display().to_string(), String::new());
    Ok(Loaded { config, warnings: ConfigErrors { path, text, errors: Vec::new() } })
}

/// Where the running process is asked for status, and for metrics, whatever the file is like.
fn listeners(arg: &ConfigArg) -> (SocketAddr, SocketAddr) {
    let now = Clock::system().now();
    let of = |config: &config::Config| (config.admin, config.metrics);
    match config::load(&arg.config, now) {
        Ok(loaded) => of(&loaded.config),
        Err(errors) => {
            tell(&errors);
            let salvaged = config::in_force::salvage(&arg.config);
            let in_force = config::in_force::load(&arg.config, now);
            in_force.map_or((salvaged.admin, salvaged.metrics), |(config, _)| of(&config))
        }
    }
}

/// What concerns the site is done on its server, not on a gateway that follows it.
fn is_own(config: &config::Config) -> anyhow::Result<()> {
    match &config.site_server {
        None => Ok(()),
        Some(_) => anyhow::bail!(
            "this gateway follows a site server ([site_server]): run the command there, with its \
             configuration"
        ),
    }
}

fn tell(errors: &ConfigErrors) {
    // anstream takes the colours out again where nobody would see them.
    anstream::eprintln!("{}\n", errors.render(true));
}

/// Write data.
///
/// # Errors
/// Standard output cannot be written to.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_styled(&plain(text))
}

/// The same for text that has styles, and nothing in it that others wrote.
///
/// # Errors
/// As [`print`].
pub fn print_styled(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

/// Write data as JSON.
///
/// # Errors
/// As [`print`].
pub fn print_json<T: serde::Serialize>(data: &T) -> anyhow::Result<()> {
    print_styled(&wrap::plain_json(&(serde_json::to_string_pretty(data)? + "\n")))
}
