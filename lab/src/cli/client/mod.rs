//! `client`: one simulated client through all that clients do, or a fleet of them as a load.
//!
//! Reads tokens from files, so that none is in a list of processes.

mod fleet;
mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::CryptoProvider;
use sitegate::cli::{FAILED, Format, print_json, print_styled};
use sitegate::clock::Clock;

use crate::walk::{WalkOutcome, WalkPlan, walk};
use crate::{Reach, Trust};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gateway, by a name that its certificate has.
    #[arg(long, value_name = "https://HOST:PORT", value_parser = gateway)]
    gateway: GatewayArg,
    /// The root certificates that the client trusts (sitegate site export-root).
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// The address to connect to, instead of what the name resolves to.
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<SocketAddr>,
    /// A file with a bulk registration token (sitegate token bulk): clients register with it.
    #[arg(long, value_name = "FILE")]
    bulk_token: Option<PathBuf>,
    /// A file with a client token, for a gateway without a token service.
    #[arg(long, value_name = "FILE", conflicts_with = "bulk_token")]
    token: Option<PathBuf>,
    /// A file with a user's token.
    #[arg(long, value_name = "FILE")]
    user_token: Option<PathBuf>,
    /// A file with a boot media or task sequence token.
    #[arg(long, value_name = "FILE")]
    media_token: Option<PathBuf>,
    /// AltAuth is open to this machine's network; it should be refused otherwise.
    #[arg(long)]
    alt_auth: bool,
    /// Windows authentication is open, and this is who comes; it should be refused otherwise.
    #[arg(long, value_name = "USER")]
    ntlm: Option<String>,
    /// A path of a web application that leads on to another, such as /Reports/.
    #[arg(long, value_name = "PATH")]
    reports: Option<String>,
    /// The package to locate and to fetch.
    #[arg(long, value_name = "ID", default_value = "PS100012")]
    package: String,
    /// The path of the token service.
    #[arg(long, value_name = "PATH", default_value = "/sitegate/oauth2")]
    token_service: String,
    #[command(flatten)]
    fleet: fleet::FleetArgs,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Debug)]
struct GatewayArg {
    name: String,
    port: u16,
}

pub(super) fn run(args: Args, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let roots = std::fs::read_to_string(&args.trust)
        .with_context(|| format!("{} cannot be read", args.trust.display()))?;
    let reach = Reach {
        name: args.gateway.name.clone(),
        port: args.gateway.port,
        connect: args.connect,
        trust: Trust::new(&roots, provider)?,
    };
    match args.fleet.clients() {
        Some(clients) => fleet::run(&args, reach, clients),
        None => one(args, reach),
    }
}

fn one(args: Args, reach: Reach) -> anyhow::Result<ExitCode> {
    let plan = WalkPlan {
        reach,
        service: args.token_service,
        bulk: token(args.bulk_token.as_deref())?,
        token: token(args.token.as_deref())?,
        user: token(args.user_token.as_deref())?,
        media: token(args.media_token.as_deref())?,
        alt_auth: args.alt_auth,
        media_from: None,
        windows: args.ntlm,
        reports: args.reports,
        package: args.package,
        clock: Clock::system(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let ended = sitegate::os::end_requested()?;
    let is_text = args.format == Format::Text;
    let mut steps = Vec::new();
    if is_text {
        print_styled(&show::head())?;
    }
    let tell = |step: &_| {
        steps.push(Clone::clone(step));
        if is_text {
            // Whoever does not read on has seen enough; the exit code tells all the same.
            let _ = print_styled(&show::row(step));
        }
    };
    let whole = runtime.block_on(async {
        tokio::select! {
            walked = walk(plan, tell) => walked.map(|_| true),
            () = ended => Ok(false),
        }
    })?;
    match args.format {
        Format::Text => print_styled(&show::sum(&steps, whole))?,
        Format::Json => print_json(&steps)?,
    }
    let good = whole && steps.iter().all(|step| step.outcome != WalkOutcome::Failed);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn token(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
    anyhow::ensure!(!text.trim().is_empty(), "{} is empty", file.display());
    Ok(Some(text.trim().to_owned()))
}

fn gateway(text: &str) -> Result<GatewayArg, String> {
    let wrong = || "write https://HOST or https://HOST:PORT".to_owned();
    let rest = text.strip_prefix("https://").ok_or_else(wrong)?.trim_end_matches('/');
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().map_err(|_| wrong())?),
        None => (rest, 443),
    };
    if name.is_empty() || name.contains(['/', ':', '@', '?']) {
        Err(wrong())
    } else {
        Ok(GatewayArg { name: name.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::gateway;

    #[test]
    fn a_gateway_is_a_host_by_https() {
        let read = |text: &str| gateway(text).map(|g| (g.name, g.port));
        assert_eq!(read("https://mp01.contoso.com/"), Ok(("mp01.contoso.com".to_owned(), 443)));
        assert_eq!(read("https://mp01:8443"), Ok(("mp01".to_owned(), 8443)));
        for wrong in ["http://mp01", "mp01", "https://", "https://mp01:x", "https://mp01/x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
