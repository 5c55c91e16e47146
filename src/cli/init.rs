//! `init`: a first configuration, commented, that passes `check`.
//!
//! Asks nothing, and replaces no file.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::clock::Clock;
use crate::config;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    // It must not be there yet.
    #[command(flatten)]
    config: super::ConfigArg,
    /// The site code: three letters or digits.
    #[arg(long, value_name = "CODE")]
    site_code: String,
    /// A domain that the site may issue certificates for; several may be given [default: those of the
    /// hosts].
    #[arg(long, value_name = "DOMAIN")]
    domain: Vec<String>,
    /// A host name that clients use for the site system; repeat it for several, the main one first.
    #[arg(long, value_name = "NAME", required = true)]
    host: Vec<String>,
    /// A role, as in the configuration's roles.
    #[arg(long, value_name = "ROLE", default_value = "management-point")]
    role: Vec<String>,
    /// The web server behind sitegate.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:80")]
    backend: String,
    /// The address that clients connect to.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:443")]
    listen: String,
    /// The state directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/sitegate")]
    state: String,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = text(&args);
    let path = &args.config.config;
    let base = path.parent().unwrap_or(Path::new("."));
    let name = path.display().to_string();
    let warnings = match config::parse(&text, &name, base, Clock::system().now()) {
        Ok(loaded) => loaded.warnings,
        Err(errors) => {
            super::tell(&errors);
            anstream::eprintln!("sitegate: nothing was written");
            return Ok(ExitCode::from(2));
        }
    };
    if !warnings.errors.is_empty() {
        super::tell(&warnings);
    }
    // Made anew or not at all: whatever is there is somebody's.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.with_context(|| name.clone())?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| name.clone())?;
    anstream::eprintln!("wrote {name}\nnext: sitegate check --config {name}");
    anstream::eprintln!("      sitegate doctor --config {name}");
    Ok(ExitCode::SUCCESS)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

/// What a site with this host is likely to issue for: the host's domain, or the host where it has none.
fn domain_of(host: &str) -> String {
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    match host.split_once('.') {
        Some((_, domain)) if domain.contains('.') && !is_address => domain.to_owned(),
        _ => host.to_owned(),
    }
}

fn text(args: &Args) -> String {
    let Args { site_code, domain, host, role, backend, listen, state, .. } = args;
    let short = host.first().and_then(|host| host.split('.').next()).unwrap_or("mp01");
    let mut domains = domain.clone();
    if domains.is_empty() {
        domains = host.iter().map(|host| domain_of(host)).collect();
        domains.sort();
        domains.dedup();
    }
    let domains = list(&domains);
    format!(
        r#"# The configuration of sitegate. Every key and its default: docs/configuration.md.
# A changed file is reloaded automatically; check it before: sitegate check

[site]
code = {code}
# The site's own authority and keys. Back it up; keep it private.
state = {state}
# The domains that the site's root may issue certificates for. They are written into the root at the
# first start, and cannot be changed afterwards: write all domains that the site may ever need.
domains = {domains}

[[site_system]]
# Its name in logs, metrics and status.
name = {name}
# Its roles open its routes: sitegate config explain ROLE
roles = {roles}
# The address that clients connect to.
listen = {listen}
# The names that clients use; its certificate covers all of them.
hosts = {hosts}
# The web server behind sitegate; it stays unchanged.
backend = {backend}
# The watched folder of a PKI certificate, if there is one; otherwise the site issues one.
#pki = "/etc/sitegate/certs/pki/{short}"
"#,
        code = quoted(site_code),
        state = quoted(state),
        name = quoted(short),
        roles = list(role),
        listen = quoted(listen),
        hosts = list(host),
        backend = quoted(backend),
    )
}
