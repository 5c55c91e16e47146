//! The program `sitegate-lab`: installs the crypto provider, calls the library, turns errors into
//! an exit code.

use std::process::ExitCode;

use clap::Parser;
use sitegate_lab::cli::{self, LabCli};

/// As in sitegate, so that the demonstration and the load of a fleet are measured with the same one.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = LabCli::parse();
    // First of all: pingora installs another provider if there is none.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    if provider.clone().install_default().is_err() {
        anstream::eprintln!("sitegate-lab: a crypto provider was installed already");
        return ExitCode::from(sitegate::cli::FAILED);
    }
    match cli::dispatch(cli, provider.into()) {
        Ok(code) => code,
        Err(error) => {
            let line = format!("sitegate-lab: {error:#}");
            anstream::eprintln!("{}", sitegate::cli::plain(&line));
            ExitCode::from(sitegate::cli::FAILED)
        }
    }
}
