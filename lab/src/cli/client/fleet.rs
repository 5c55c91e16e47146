//! `client --fleet`: a load, what becomes of it while it lasts, and the sum of it.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sitegate::cli::{FAILED, Format, print_json, print_styled};
use sitegate::clock::Clock;
use sitegate::config::Span;

use super::show;
use crate::Reach;
use crate::fleet::{Fleet, FleetPlan};

/// How often progress is shown, and the end looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const SHOW_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct FleetArgs {
    /// As many clients at once, as a load.
    #[arg(long = "fleet", value_name = "CLIENTS", value_parser = clap::value_parser!(u32).range(1..))]
    clients: Option<u32>,
    /// How long the fleet works.
    #[arg(
        long = "for",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = crate::cli::duration,
        requires = "clients"
    )]
    time: Span,
    /// Requests of the whole fleet in a second; as many as it can otherwise.
    #[arg(
        long,
        value_name = "PER-SECOND",
        requires = "clients",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    rate: Option<u32>,
    /// The host of content, if it is another than the gateway's.
    #[arg(long, value_name = "HOST", requires = "clients")]
    content_host: Option<String>,
}

impl FleetArgs {
    /// How many clients, if it is to be a fleet.
    pub(super) fn clients(&self) -> Option<u32> {
        self.clients
    }
}

pub(super) fn run(args: &super::Args, reach: Reach, clients: u32) -> anyhow::Result<ExitCode> {
    let plan = FleetPlan {
        reach,
        content_host: args.fleet.content_host.clone(),
        service: args.token_service.clone(),
        bulk: super::token(args.bulk_token.as_deref())?,
        token: super::token(args.token.as_deref())?,
        package: args.package.clone(),
        clients,
        rate: args.fleet.rate,
        time: args.fleet.time.0,
        clock: Clock::system(),
    };
    anyhow::ensure!(
        plan.bulk.is_some() || plan.token.is_some(),
        "a fleet needs --bulk-token, or --token for one that all share"
    );
    // Each client is one or two open files.
    let _ = sitegate::os::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let ended = sitegate::os::end_requested()?;
    let time = plan.time;
    let fleet = Fleet::start(plan)?;
    let shows = std::io::stderr().is_terminal();
    let whole = runtime.block_on(async {
        tokio::select! {
            () = watch(&fleet, shows, time) => true,
            () = ended => false,
        }
    });
    if shows {
        progress("");
        let _ = std::io::stderr().write_all(b"\r");
    }
    let summary = fleet.stop();
    match args.format {
        Format::Text => print_styled(&show::summary(&summary, clients))?,
        Format::Json => print_json(&summary)?,
    }
    // Whoever was cut short had not the time to let all of them begin.
    let all = !whole || summary.clients == u64::from(clients);
    let good = all && summary.failed == 0 && summary.requests > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn watch(fleet: &Fleet, shows: bool, time: Duration) {
    let begun = Instant::now();
    let mut shown = Duration::ZERO;
    while !fleet.is_over() {
        tokio::time::sleep(LOOK_AGAIN).await;
        let passed = begun.elapsed();
        if shows && passed >= shown + SHOW_AGAIN {
            shown = passed;
            let now = fleet.summary();
            progress(&format!(
                "{:>4.0} of {} s  {} clients  {} requests  {:.0}/s  {} failed",
                now.seconds,
                time.as_secs(),
                now.clients,
                now.requests,
                now.requests_per_second,
                now.failed
            ));
        }
    }
}

/// Write over the line before, by blanks rather than by codes that not every terminal has.
fn progress(line: &str) {
    let _ = std::io::stderr().write_all(format!("\r{line:<78}").as_bytes());
}
