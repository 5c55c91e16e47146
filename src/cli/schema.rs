//! `schema`

use std::process::ExitCode;

use crate::config;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    super::print_json(&config::schema())?;
    Ok(ExitCode::SUCCESS)
}
