//! `site rollover`: how far each of the site's keys and authorities has come, and the next step.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use serde::Serialize;

use super::{ConfigArg, Format, gateways, store};
use crate::app::open_authority;
use crate::clock::Clock;
use crate::config::Config;
use crate::site::store::{Action, Store};
use crate::site::{
    AuthorityFacts, JWKS_CACHED_S, Rollover, RolloverStep, ShownKind, ShownState, StepRefused,
    Terms, Thing,
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Command {
    #[command(subcommand)]
    step: Option<StepCommand>,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, Subcommand)]
enum StepCommand {
    /// Show the state of each rollover, and what its next step waits for.
    Show(ShowArgs),
    /// Make the next root, role authority or key and publish it, without using it.
    Publish {
        /// What.
        thing: ThingArg,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Put the next one in force; the previous one is still trusted.
    Switch {
        /// What.
        thing: ThingArg,
        /// For the root: every client has imported the next one.
        #[arg(long)]
        clients_have_it: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Stop trusting the previous one.
    Retire {
        /// What.
        thing: ThingArg,
        /// For the token key: tokens that the old key signed end at once.
        #[arg(long)]
        tokens_end_now: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ThingArg {
    Root,
    Intermediate,
    TokenKey,
    BundleKey,
}

impl ThingArg {
    fn thing(self) -> Thing {
        match self {
            ThingArg::Root => Thing::Root,
            ThingArg::Intermediate => Thing::Intermediate,
            ThingArg::TokenKey => Thing::TokenKey,
            ThingArg::BundleKey => Thing::BundleKey,
        }
    }
}

pub(super) fn run(command: Command, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    match command.step {
        None => show(&command.show, provider),
        Some(StepCommand::Show(args)) => show(&args, provider),
        Some(StepCommand::Publish { thing, config }) => {
            step(&config, thing.thing(), RolloverStep::Publish, Terms::default(), provider)
        }
        Some(StepCommand::Switch { thing, clients_have_it, config }) => {
            let terms = Terms { clients_have_it, ..Terms::default() };
            step(&config, thing.thing(), RolloverStep::Switch, terms, provider)
        }
        Some(StepCommand::Retire { thing, tokens_end_now, config }) => {
            let terms = Terms { tokens_end_now, ..Terms::default() };
            step(&config, thing.thing(), RolloverStep::Retire, terms, provider)
        }
    }
}

fn rollover(config: &Config, provider: Arc<CryptoProvider>) -> Rollover {
    let (state, kind) = (&config.site.state, config.token_service.signing);
    Rollover::new(state, &config.site.code, kind, open_authority(config, provider))
}

fn step(
    config: &ConfigArg,
    thing: Thing,
    step: RolloverStep,
    terms: Terms<'_>,
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<ExitCode> {
    let config = match super::load(config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    store::is_ours(&config.site.state.join(".lock"))?;
    super::is_own(&config)?;
    if (thing, step) == (Thing::Root, RolloverStep::Retire) {
        expects_what_stays(&config, &provider)?;
    }
    let rollover = rollover(&config, provider);
    let ring = rollover.progress(thing, &terms, Clock::system().now())?.ring;
    let laggards = gateways::lacking(&config, thing, &ring)?;
    let terms = Terms { laggards: &laggards, ..terms };
    // The store first: a step that nobody could write down is not taken.
    let ring = store::with(&config, async |store: Store, now| {
        let ring = rollover.step(thing, step, &terms, now)?;
        let mut detail = format!("{}: generation {} in force", step.as_str(), ring.current);
        for (word, generation) in [("next", ring.next), ("old", ring.old)] {
            if let Some(generation) = generation {
                write!(detail, ", {word} {generation}")?;
            }
        }
        if terms.tokens_end_now {
            detail.push_str(", tokens of the old key end now");
        }
        let subject = thing.as_str();
        store.record(Action::KeysChanged, subject, &detail, &store::actor(), now).await?;
        Ok(ring)
    })?;
    anstream::eprintln!("{} is {}", thing.as_str(), ring.stage().as_str());
    for line in what_follows(thing, step, &terms) {
        anstream::eprintln!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a start would still find a root that the configuration expects.
fn expects_what_stays(config: &Config, provider: &Arc<CryptoProvider>) -> anyhow::Result<()> {
    let Some(authority) = open_authority(config, provider.clone()) else { return Ok(()) };
    let shown = authority.overview(Clock::system().now())?;
    let in_force =
        |row: &&AuthorityFacts| row.kind == ShownKind::Root && row.state == ShownState::InForce;
    let Some(root) = shown.iter().find(in_force) else { return Ok(()) };
    anyhow::ensure!(
        config.site.roots.is_empty() || config.site.roots.contains(&root.facts.sha256),
        "[site] roots does not name the root that stays, {}: write it there first, or the next start will fail",
        root.facts.sha256
    );
    Ok(())
}

/// What the administrator has to know or do after a step.
fn what_follows(thing: Thing, step: RolloverStep, terms: &Terms<'_>) -> Vec<String> {
    let text = match (thing, step) {
        (Thing::Root, RolloverStep::Publish) => {
            "import what 'sitegate site export-root' writes now into every client, then switch with \
             --clients-have-it"
        }
        (Thing::Root | Thing::Intermediate, RolloverStep::Switch) => {
            "a running sitegate reissues every certificate within seconds"
        }
        (Thing::Root, RolloverStep::Retire) => "remove the old root from the clients",
        (Thing::TokenKey, RolloverStep::Publish) => {
            return vec![format!("switch in {} minutes at the earliest", JWKS_CACHED_S / 60)];
        }
        (Thing::TokenKey, RolloverStep::Switch) => {
            "retire the old one when its last token has ended, or with --tokens-end-now"
        }
        (Thing::TokenKey, RolloverStep::Retire) if terms.tokens_end_now => {
            "a running sitegate refuses every token of the old key from its next request on; clients get new ones with their own keys; issue bulk, content and media tokens again"
        }
        _ => return Vec::new(),
    };
    vec![text.to_owned()]
}

#[derive(Serialize)]
struct KeyRow {
    thing: &'static str,
    stage: &'static str,
    since: Option<Timestamp>,
    next_step: &'static str,
    waits: Vec<Wait>,
}

#[derive(Serialize)]
struct Wait {
    code: &'static str,
    title: &'static str,
    detail: String,
    hint: &'static str,
}

impl Wait {
    fn of(refused: StepRefused) -> Self {
        let StepRefused { refusal, detail } = refused;
        Wait { code: refusal.code(), title: refusal.title(), detail, hint: refusal.hint() }
    }
}

fn show(args: &ShowArgs, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let config = match super::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    super::is_own(&config)?;
    let (rollover, now) = (rollover(&config, provider), Clock::system().now());
    let mut rows = Vec::new();
    for thing in Thing::ALL.iter().copied() {
        let ring = rollover.progress(thing, &Terms::default(), now)?.ring;
        let laggards = gateways::lacking(&config, thing, &ring)?;
        let terms = Terms { laggards: &laggards, ..Terms::default() };
        let progress = rollover.progress(thing, &terms, now)?;
        rows.push(KeyRow {
            thing: thing.as_str(),
            stage: progress.ring.stage().as_str(),
            since: progress.ring.since,
            next_step: progress.step.as_str(),
            waits: progress.waits.into_iter().map(Wait::of).collect(),
        });
    }
    match args.format {
        Format::Json => super::print_json(&rows)?,
        Format::Text => super::print(&text(&rows)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(rows: &[KeyRow]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for row in rows {
        let KeyRow { thing, stage, next_step, .. } = row;
        match row.since {
            Some(since) => writeln!(text, "{thing:<13} {stage}, since {since}")?,
            None => writeln!(text, "{thing:<13} {stage}")?,
        }
        if row.waits.is_empty() {
            writeln!(text, "    next: {next_step}")?;
        } else {
            writeln!(text, "    next: {next_step}, which waits:")?;
        }
        for Wait { code, title, detail, .. } in &row.waits {
            writeln!(text, "        {title} ({code})")?;
            if !detail.is_empty() {
                writeln!(text, "        {detail}")?;
            }
        }
    }
    Ok(text)
}
