//! `demo`: simulated site systems, a gateway in this process, and a walk through what it does.
//!
//! Everything lies in a directory of its own that is gone afterwards, on ports that the system picks.

mod certificates;
mod demo_site;
mod devices;
mod reload;
mod requests;
mod show;
mod site;
mod step;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::CryptoProvider;
use sitegate::cli::{FAILED, print, print_styled};

use demo_site::DemoSite;
use step::DemoStep;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do every step once, print the table, and end.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: Args, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let ended = sitegate::os::end_requested()?;
    let mut stage = DemoSite::start(provider).context("the demonstration cannot start")?;
    // A walk that was cut short has shown nothing; whoever looked around has seen enough.
    let cut = || if args.once { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
    // Whatever happens, the stage is cleared at the end.
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = perform(&mut stage, args.once) => outcome,
            () = ended => Ok(cut()),
        }
    });
    if !args.once {
        print("\nThe demonstration ends; its directory is removed.\n")?;
    }
    stage.clear();
    outcome
}

async fn perform(stage: &mut DemoSite, once: bool) -> anyhow::Result<ExitCode> {
    if !once {
        print_styled(&show::opening(stage))?;
    }
    let mut steps = DemoWalk { once, done: Vec::new() };
    steps.walk(stage).await?;
    let failed = steps.done.iter().filter(|step| !step.ok).count();
    if once {
        print_styled(&show::table(&steps.done))?;
        return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) });
    }
    print_styled(&show::closing(stage, steps.done.len(), failed))?;
    std::future::pending().await
}

/// The steps in order.
struct DemoWalk {
    once: bool,
    done: Vec<DemoStep>,
}

impl DemoWalk {
    async fn walk(&mut self, stage: &mut DemoSite) -> anyhow::Result<()> {
        use {certificates as c, devices as d, reload as r, requests as q};
        self.tell(&c::SITE_ISSUED, c::site_issued(stage).await)?;
        self.tell(&q::BOOTSTRAP, q::bootstrap(stage).await)?;
        self.tell(&q::NO_TOKEN, q::no_token(stage).await)?;
        self.tell(&q::EXPIRED, q::expired(stage).await)?;
        self.tell(&q::FOREIGN, q::foreign(stage).await)?;
        self.tell(&q::DEVICE_TOKEN, q::device(stage).await)?;
        self.tell(&q::USER_TOKEN, q::user(stage).await)?;
        self.tell(&q::CONTENT_RANGES, q::content(stage).await)?;
        self.tell(&q::MESSAGE, q::message(stage).await)?;
        self.tell(&d::REGISTRATION, d::registration(stage).await)?;
        self.tell(&d::OWN_TOKEN, d::own_token(stage).await)?;
        self.tell(&d::OWN_CONTENT, d::own_content(stage).await)?;
        self.tell(&d::BLOCKED, d::blocked(stage).await)?;
        self.tell(&c::PKI_SWAP, c::pki_swap(stage).await)?;
        self.tell(&c::PKI_BROKEN, c::pki_broken(stage).await)?;
        self.tell(&c::PKI_REMOVED, c::pki_removed(stage).await)?;
        self.tell(&r::RELOAD, r::reload(stage).await)?;
        self.tell(&r::BROKEN, r::broken(stage).await)?;
        for step in site::walked(stage).await? {
            self.add(DemoStep::walked(self.done.len() + 1, &step))?;
        }
        self.tell(&r::METRICS, r::metrics(stage).await)
    }

    fn tell(
        &mut self,
        told: &'static step::StepText,
        outcome: anyhow::Result<step::StepOutcome>,
    ) -> anyhow::Result<()> {
        self.add(DemoStep::new(self.done.len() + 1, told, outcome))
    }

    fn add(&mut self, step: DemoStep) -> anyhow::Result<()> {
        if !self.once {
            print_styled(&show::step(&step))?;
        }
        self.done.push(step);
        Ok(())
    }
}
