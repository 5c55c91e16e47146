//! `completions` and `man`: what packages install beside the program, out of the command line itself.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

pub(super) fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "sitegate", &mut text);
    super::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(folder: Option<&Path>) -> anyhow::Result<ExitCode> {
    let command = super::Cli::command();
    match folder {
        Some(folder) => {
            let shown = || folder.display().to_string();
            std::fs::create_dir_all(folder).with_context(shown)?;
            clap_mangen::generate_to(command, folder).with_context(shown)?;
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command).render(&mut text)?;
            super::print(&String::from_utf8_lossy(&text))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
