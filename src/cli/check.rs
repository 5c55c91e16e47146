//! `check`

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;

use super::ConfigArg;
use super::status::certificate_text;
use crate::app::{
    Examined, Examiner, examine_access_log, examine_issuer, examine_issuers, examine_site_server,
    examine_space, examine_state, examine_token_service, read_blocklist,
};
use crate::clock::Clock;
use crate::config::{Config, SiteSystem};
use crate::control::machine;
use crate::os;

pub(super) fn run(arg: ConfigArg, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let loaded = match super::load_strictly(&arg) {
        Ok(loaded) => loaded,
        Err(_) => return Ok(ExitCode::from(super::BAD_CONFIG)),
    };
    let clock = Clock::system();
    let (config, now) = (loaded.config, clock.now());
    let examiner = Examiner::new(provider.clone(), clock);
    let mut text = String::new();
    let mut wrong = 0;
    for system in &config.site_systems {
        text.push_str(&headline(system));
        wrong += tell(&mut text, &examiner.site_system(system, &config), now)?;
    }
    for issuer in examine_issuers(&config) {
        writeln!(text, "  token issuer {}:", issuer.policy.name)?;
        wrong += tell(&mut text, &examine_issuer(issuer, now), now)?;
    }
    let (what, found) = match &config.site_server {
        Some(_) => ("site server", examine_site_server(&config, now)),
        None => ("store", examine_token_service(&config)),
    };
    writeln!(text, "  {what}:")?;
    wrong += tell(&mut text, &found, now)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut state = runtime.block_on(examine_state(&config, provider, now));
    // What makes a certificate impossible is of the state, too: it is told once.
    state.wrong.retain(|wrong| !text.contains(wrong.as_str()));
    if !state.wrong.is_empty() {
        writeln!(text, "  state directory:")?;
        wrong += tell(&mut text, &state, now)?;
    }
    let space = examine_space(&config);
    if !space.wrong.is_empty() || !space.notes.is_empty() {
        writeln!(text, "  disk:")?;
        wrong += tell(&mut text, &space, now)?;
    }
    blocklist(&mut text, &config)?;
    let log = examine_access_log(&config);
    if !log.wrong.is_empty() {
        writeln!(text, "  log:")?;
        wrong += tell(&mut text, &log, now)?;
    }
    descriptors(&mut text, &config)?;
    let verdict = match wrong {
        0 => "good".to_owned(),
        1 => "the configuration is valid, but 1 problem was found".to_owned(),
        n => format!("the configuration is valid, but {n} problems were found"),
    };
    super::print(&format!("{}: {verdict}\n{text}", arg.config.display()))?;
    Ok(match wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(super::FAILED),
    })
}

fn headline(system: &SiteSystem) -> String {
    let roles: Vec<&str> = system.roles.iter().map(|role| role.as_str()).collect();
    let elsewhere: String = system
        .role_backends
        .iter()
        .map(|(role, backend)| format!("    {} to {}\n", role.as_str(), backend.url))
        .collect();
    format!(
        "  {}: {} on {} for {}, to {}\n{elsewhere}",
        system.name,
        if roles.is_empty() { "no role".to_owned() } else { roles.join(" and ") },
        system.listen,
        system.hosts.join(", "),
        system.backend.url,
    )
}

/// Say what was found; how much of it is wrong.
fn tell(text: &mut String, found: &Examined, now: Timestamp) -> Result<usize, std::fmt::Error> {
    if let Some(certificate) = &found.certificate {
        writeln!(text, "    serves {}:", certificate.source)?;
        certificate_text(text, certificate, now)?;
    }
    for note in &found.notes {
        writeln!(text, "    {note}")?;
    }
    for ending in &found.ending {
        writeln!(text, "    soon: {ending}")?;
    }
    for wrong in &found.wrong {
        writeln!(text, "    WRONG: {wrong}")?;
    }
    Ok(found.wrong.len())
}

/// A process that is started from here has this command's limit; a service may have another.
fn descriptors(text: &mut String, config: &Config) -> std::fmt::Result {
    let needed = machine::descriptors_needed(config.limits.connections);
    match os::raise_descriptors() {
        Ok(Some(open)) if open < needed => writeln!(
            text,
            "  limits: {needed} open files may be needed, and the limit here is {open} \
             (LimitNOFILE in the unit, ulimit -n in a shell)"
        ),
        _ => Ok(()),
    }
}

/// A list that is not good is an error of the configuration, and was told already.
fn blocklist(text: &mut String, config: &Config) -> anyhow::Result<()> {
    if config.site.blocklist.is_some() {
        writeln!(text, "  blocklist: {} entries", read_blocklist(config)?.len())?;
    }
    Ok(())
}
