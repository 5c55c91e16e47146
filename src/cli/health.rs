//! `health`: whether a running gateway is ready.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::ConfigArg;
use crate::front::at_home;

const WAIT_MAX: Duration = Duration::from_secs(3);
/// How often it is asked while it is waited for.
const LOOK: Duration = Duration::from_millis(100);
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The metrics listener to query, instead of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
    /// Wait until it is ready, at most this many seconds [default if given without a number: 30].
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "30")]
    wait: Option<u64>,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let address = args.address.unwrap_or_else(|| super::listeners(&args.config).1);
    let until = Instant::now() + Duration::from_secs(args.wait.unwrap_or(0));
    let answer = loop {
        let answer = get(address, "/readyz");
        let is_ready = matches!(answer, Ok((200, _)));
        if is_ready || Instant::now() >= until {
            break answer;
        }
        std::thread::sleep(LOOK);
    };
    let (status, body) = answer?;
    super::print(&body)?;
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

/// Fetch from a listener of this machine: the status and the body.
///
/// # Errors
/// No listener answers there, or not in HTTP.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let address = at_home(address);
    let mut stream = TcpStream::connect_timeout(&address, WAIT_MAX)
        .with_context(|| format!("no gateway responds at {address}"))?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the response is not HTTP")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.context("the response has no status")?, body.to_owned()))
}
