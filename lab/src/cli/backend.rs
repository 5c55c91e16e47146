//! `backend`: a simulated site system, and a line for each request that reaches it.
//!
//! Decides nothing: what it answers is decided in `pages`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use sitegate::config::Span;

use crate::backend::Tell;
use crate::{SeenRequest, Setup, SimulatedBackend};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen, by plain HTTP.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// What it is: both, unless said otherwise.
    #[arg(long = "role", value_enum, value_name = "ROLE")]
    roles: Vec<Part>,
    /// A folder with a folder for each package. Without it every package has every file, of bytes
    /// that follow from its name, and of the size that its name begins with: 1048576.cab.
    #[arg(long, value_name = "FOLDER")]
    content: Option<PathBuf>,
    /// The host that clients are told to fetch content from; the one that they ask by default.
    #[arg(long, value_name = "HOST")]
    content_host: Option<String>,
    /// The beginning of paths that want Windows authentication, besides /…_WindowsAuth/ and
    /// /NOCERT_….
    #[arg(long, value_name = "PREFIX")]
    ntlm: Vec<String>,
    /// A package whose place clients ask for in vain so many times before it is ready.
    #[arg(long, value_name = "PACKAGE=TIMES", value_parser = not_ready)]
    not_ready: Vec<(String, u32)>,
    /// How long client notification keeps a client waiting.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = super::duration)]
    poll: Span,
    /// Without a line for each request.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    ManagementPoint,
    DistributionPoint,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.content {
        anyhow::ensure!(folder.is_dir(), "{} is no folder", folder.display());
    }
    let is = |part: Part| args.roles.is_empty() || args.roles.contains(&part);
    let setup = Setup {
        listen: args.listen,
        management_point: is(Part::ManagementPoint),
        distribution_point: is(Part::DistributionPoint),
        content: args.content,
        content_host: args.content_host,
        windows: args.ntlm,
        not_ready: args.not_ready,
        poll: args.poll.0,
        tell: (!args.quiet).then(|| Arc::new(tell) as Tell),
    };
    let listen = setup.listen;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let ended = sitegate::os::end_requested()?;
    let backend =
        SimulatedBackend::start_as(setup).with_context(|| format!("cannot listen on {listen}"))?;
    anstream::eprintln!("a simulated site system listens on http://{}", backend.address());
    if !listen.ip().is_loopback() {
        anstream::eprintln!("it lets everybody in who can reach it: let the gateway alone do so");
    }
    runtime.block_on(async {
        tokio::select! {
            () = ended => {}
        }
    });
    anstream::eprintln!("{} requests on {} connections", backend.count(), backend.connections());
    backend.stop();
    Ok(ExitCode::SUCCESS)
}

fn tell(seen: &SeenRequest, status: u16) {
    anstream::eprintln!("{}", line(seen, status));
}

/// A request on one line: what, with which status, and what it says of who it is from.
fn line(seen: &SeenRequest, status: u16) -> String {
    let mut line = format!("{status} {} {}", seen.method, seen.target);
    if seen.body_len > 0 {
        line.push_str(&format!("  {} bytes", seen.body_len));
    }
    if let Some(user) = &seen.identity {
        line.push_str(&format!("  connection of {user}"));
    }
    if seen.authorization {
        line.push_str("  Authorization");
    }
    for (name, value) in &seen.fields {
        line.push_str(&format!("  {name}: {value}"));
    }
    // What a client makes up must not write to the terminal.
    line.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn not_ready(text: &str) -> Result<(String, u32), String> {
    let wrong = || "write PACKAGE=TIMES, as PS100012=2".to_owned();
    let (package, times) = text.split_once('=').ok_or_else(wrong)?;
    Ok((package.to_owned(), times.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_line_shows_identity_and_no_credential() {
        let seen = SeenRequest {
            method: "GET".to_owned(),
            target: "/SMS_MP/.sms_pol?x".to_owned(),
            fields: vec![("sitegate-device".to_owned(), "GUID:1\u{1b}[2J".to_owned())],
            authorization: true,
            identity: Some("anna".to_owned()),
            body_len: 12,
        };
        assert_eq!(
            line(&seen, 200),
            "200 GET /SMS_MP/.sms_pol?x  12 bytes  connection of anna  Authorization  \
             sitegate-device: GUID:1?[2J"
        );
        assert_eq!(not_ready("PS1=2"), Ok(("PS1".to_owned(), 2)));
        assert!(not_ready("PS1").is_err() && not_ready("PS1=x").is_err());
    }
}
