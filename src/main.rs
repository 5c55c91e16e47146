//! The program: installs the crypto provider, calls the library, turns errors into an exit code.

use std::process::ExitCode;

use clap::Parser;
use sitegate::cli::{self, Cli};

/// Measured to cost less than the system's allocator and mimalloc for this workload.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // First of all: pingora installs another provider if there is none.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    if provider.clone().install_default().is_err() {
        anstream::eprintln!("sitegate: a crypto provider was installed already");
        return ExitCode::from(cli::FAILED);
    }
    match cli::dispatch(cli, provider.into()) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("{}", cli::plain(&format!("sitegate: {error:#}")));
            ExitCode::from(cli::FAILED)
        }
    }
}
