//! `explain`: what a code means, or what becomes of one captured request.

mod pages;
mod request;
mod text;

use std::process::ExitCode;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use serde::Serialize;

use super::Format;
use crate::denial::Denial;
pub use pages::{PageEntry, entries};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A code, the reason phrase that clients log (EHTTP_Token_Expired), the substatus that IIS
    /// logs (403.13), or a configuration key [default: list all].
    #[arg(value_name = "CODE")]
    code: Option<String>,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    request: request::Capture,
}

/// One meaning of a code, for scripts.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    entry: &'a PageEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    substatus: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<&'static str>,
}

/// The usage is wrong.
const USAGE: u8 = 2;

pub(super) fn run(args: Args, provider: Arc<CryptoProvider>) -> anyhow::Result<ExitCode> {
    if args.request.is_meant() {
        return request::run(&args.request, args.format, provider);
    }
    let all = entries();
    let Some(code) = args.code else {
        match args.format {
            Format::Json => super::print_json(&all.iter().map(explained).collect::<Vec<_>>())?,
            Format::Text => super::print(&text::list(&all))?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    let found: Vec<&PageEntry> = all.iter().filter(|entry| is_meant(entry, &code)).collect();
    if found.is_empty() {
        anstream::eprintln!("{}", text::unknown(&code, &all));
        return Ok(ExitCode::from(USAGE));
    }
    match args.format {
        Format::Json => super::print_json(&found.into_iter().map(explained).collect::<Vec<_>>())?,
        Format::Text => {
            let each: Vec<String> =
                found.into_iter().map(|entry| text::one(entry, denial(entry))).collect();
            super::print(&each.join("\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explained(entry: &PageEntry) -> Explained<'_> {
    let denial = denial(entry);
    Explained {
        entry,
        substatus: denial.and_then(Denial::substatus),
        challenge: denial.and_then(Denial::challenge),
    }
}

/// The denial of a row of docs/denials.md.
fn denial(entry: &PageEntry) -> Option<Denial> {
    Denial::from_code(&entry.code).filter(|_| entry.page == "docs/denials.md")
}

/// By its code, by what clients and IIS log of it, in any case.
fn is_meant(entry: &PageEntry, typed: &str) -> bool {
    let phrase = || denial(entry).is_some_and(|d| d.reason_phrase().eq_ignore_ascii_case(typed));
    let substatus = || {
        denial(entry).is_some_and(|d| {
            d.substatus().is_some_and(|sub| format!("{}.{sub}", d.status()) == typed)
        })
    };
    entry.code.eq_ignore_ascii_case(typed) || phrase() || substatus()
}
