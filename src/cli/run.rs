//! `run`

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::CryptoProvider;

use super::ConfigArg;
use crate::app::{Options, launch};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::machine;
use crate::log;
use crate::os;

pub(super) fn run(arg: ConfigArg, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let dumps = os::hide_memory();
    let loaded = match super::load_strictly(&arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let clock = Clock::system();
    let _log = log::init(&loaded.config.log, &clock);
    if let Err(error) = dumps {
        tracing::warn!("core dumps cannot be disabled, and could contain keys: {error}");
    }
    let needed = machine::descriptors_needed(loaded.config.limits.connections);
    let least = least_descriptors(&loaded.config);
    match os::raise_descriptors() {
        Ok(Some(open)) if open < least => anyhow::bail!(
            "sitegate cannot start: {open} files may be open, and it needs {least} at least: raise \
             LimitNOFILE (ulimit -n)"
        ),
        Ok(Some(open)) if open < needed => tracing::warn!(
            open,
            needed,
            "the limit of open files is less than limits.connections needs: raise LimitNOFILE, or \
             lower it"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
    let options = Options { path: arg.config, clock, provider, signals: true };
    let running = launch(loaded, options).context("sitegate cannot start")?;
    match running.join() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            anstream::eprintln!("sitegate: {error}");
            Ok(ExitCode::from(super::DEFECT))
        }
    }
}

fn least_descriptors(config: &Config) -> u64 {
    let threads = match config.limits.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let listeners = config.site_systems.iter().flat_map(|system| system.listens()).count();
    machine::descriptors_min(threads, listeners)
}
