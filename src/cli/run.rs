//! `run`

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::CryptoProvider;

use super::ConfigArg;
use crate::app::{Options, launch};
use crate::clock::Clock;
use crate::log;

pub(super) fn run(arg: ConfigArg, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(&arg) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let clock = Clock::system();
    let _log = log::init(&loaded.config.log, &clock);
    let options = Options { path: arg.config, clock, provider, signals: true };
    let running = launch(loaded, options).context("sitegate cannot start")?;
    running.join();
    Ok(ExitCode::SUCCESS)
}
