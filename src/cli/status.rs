//! `status`

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;

use super::wrap::when;
use super::{ConfigArg, Format};
use crate::admin::{BackendStatus, CertificateStatus, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The administration listener to query, instead of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let address = args.address.unwrap_or_else(|| super::listeners(&args.config).0);
    let (code, body) = super::health::get(address, "/api/v1/status")?;
    anyhow::ensure!(code == 200, "the gateway at {address} answers {code}: {}", body.trim());
    let status: Status =
        serde_json::from_str(&body).context("the gateway's response is of another version")?;
    match args.format {
        Format::Json => super::print_json(&status)?,
        Format::Text => super::print(&text(&status, crate::clock::Clock::system().now())?)?,
    }
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

/// The status for people.
pub(super) fn text(status: &Status, now: Timestamp) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let ready = if status.ready { "ready" } else { "NOT READY" };
    writeln!(
        out,
        "sitegate {} (process {}): {ready}, {} connections",
        status.version, status.pid, status.connections
    )?;
    for reason in &status.not_ready {
        writeln!(out, "  {reason}")?;
    }
    for warning in &status.warnings {
        writeln!(out, "  WARNING: {warning}")?;
    }
    let since = when(status.config.since, now);
    write!(out, "configuration {} since {since}", status.config.path)?;
    writeln!(
        out,
        "{}",
        if status.config.current { "" } else { " (the file has changed and has ERRORS)" }
    )?;
    for line in status.config.error.iter().flat_map(|error| error.lines()) {
        writeln!(out, "  {line}")?;
    }
    if let Some(server) = &status.site_server {
        match (server.issued, server.expires) {
            (Some(issued), Some(expires)) => {
                let stale = if expires <= now { ", EXPIRED" } else { "" };
                let (issued, expires) = (when(issued, now), when(expires, now));
                writeln!(out, "follows {} as {}", server.servers.join(", "), server.gateway)?;
                writeln!(
                    out,
                    "  bundle of {issued}, good until {expires}{stale}, {} blocked",
                    server.blocks
                )?;
            }
            _ => writeln!(out, "has NOT JOINED a site yet, as {}", server.gateway)?,
        }
        for warning in &server.warnings {
            writeln!(out, "  WARNING: {warning}")?;
        }
    }
    for site in &status.site_systems {
        let roles = site.roles.join(", ");
        writeln!(out, "\n{} ({roles}) on {} to {}", site.name, site.listen, site.backend)?;
        if let Some(plain) = &site.plain_http {
            let becomes = match plain.mode.as_str() {
                "pass" => "PASSES: no token is required there",
                "redirect" => "redirects to https",
                _ => "is refused",
            };
            writeln!(out, "  plain HTTP on {} {becomes}", plain.listen)?;
        }
        for (role, backend) in &site.role_backends {
            writeln!(out, "  {role} to {backend}")?;
        }
        match (site.observe_until, site.observes) {
            (Some(until), true) => {
                let until = when(until, now);
                writeln!(
                    out,
                    "  OBSERVES until {until}: requests that would be denied are forwarded"
                )?;
            }
            (Some(until), false) => {
                writeln!(out, "  enforces: observe_until was {}", when(until, now))?;
            }
            (None, _) => {}
        }
        match &site.certificate {
            Some(certificate) => {
                let since = when(site.since, now);
                writeln!(out, "  serves {} since {since}: {}", certificate.source, site.reason)?;
                certificate_text(&mut out, certificate, now)?;
            }
            None => writeln!(out, "  serves NO certificate: {}", site.reason)?,
        }
        if let Some(until) = site.stapled_until {
            writeln!(out, "  with an OCSP response until {}", when(until, now))?;
        }
        for rejected in &site.rejected {
            writeln!(out, "  not {}: {} ({})", rejected.source, rejected.title, rejected.reason)?;
            if !rejected.detail.is_empty() {
                writeln!(out, "    {}", rejected.detail)?;
            }
            writeln!(out, "    {}", rejected.hint)?;
        }
        for warning in &site.warnings {
            writeln!(out, "  warning: {warning}")?;
        }
        if let Some(clients) = &site.clients {
            let (authorities, crls) = (clients.authorities, clients.crls);
            write!(out, "  client certificates by {authorities} authorities and {crls} CRLs")?;
            match clients.crl_expires {
                Some(expires) => {
                    writeln!(out, ", the first of which expires {}", when(expires, now))?
                }
                None => writeln!(out)?,
            }
            for problem in &clients.problems {
                writeln!(out, "  warning: {problem}")?;
            }
        }
        if let Some(next) = site.next_change {
            writeln!(out, "  next scheduled change: {}", when(next, now))?;
        }
    }
    for backend in &status.backends {
        backend_text(&mut out, backend, now)?;
    }
    for issuer in &status.issuers {
        writeln!(
            out,
            "\ntoken issuer {}: {} usable keys; iss {}; aud {}",
            issuer.name,
            issuer.keys,
            issuer.accepts.join(" or "),
            issuer.audiences.join(" or ")
        )?;
        if let Some(place) = &issuer.keys_from {
            let fetched = match issuer.keys_fetched {
                Some(at) => format!("fetched {}", when(at, now)),
                None => "NEVER fetched".to_owned(),
            };
            writeln!(out, "  keys from {place}, {fetched}")?;
        }
        for problem in &issuer.problems {
            writeln!(out, "  warning: {problem}")?;
        }
    }
    Ok(out)
}

fn backend_text(out: &mut String, backend: &BackendStatus, now: Timestamp) -> std::fmt::Result {
    write!(out, "\nbackend {} of {}", backend.name, backend.site_systems.join(", "))?;
    match backend.first_byte_ms {
        Some(ms) => writeln!(out, ": responds after {ms:.1} ms on average in the last minute")?,
        None => writeln!(out, ": no response in the last minute")?,
    }
    if backend.addresses.is_empty() {
        writeln!(out, "  its name does NOT RESOLVE")?;
    }
    for at in &backend.addresses {
        let since = at.since.map(|since| format!(" since {}", when(since, now)));
        let since = since.unwrap_or_default();
        match at.state.as_str() {
            "down" => writeln!(out, "  {} DOWN{since}", at.address)?,
            "up" => writeln!(out, "  {} up{since}", at.address)?,
            _ => writeln!(out, "  {} no request yet", at.address)?,
        }
        if let (Some(failed), Some(reason)) = (at.last_failure, &at.reason) {
            let detail = at.detail.as_deref().unwrap_or_default();
            writeln!(out, "    last failure {}: {detail} ({reason})", when(failed, now))?;
        }
        if at.state == "down" {
            match at.last_success {
                Some(success) => writeln!(out, "    last response {}", when(success, now))?,
                None => writeln!(out, "    it has not responded since the start")?,
            }
            if let Some(hint) = &at.hint {
                writeln!(out, "    {hint}")?;
            }
        }
    }
    Ok(())
}

/// What is left of a validity, in the unit that fits, rounded to the nearest: a certificate of 90
/// days has 90 days left a second after it was issued, too.
fn left(seconds: i64) -> String {
    let of = |unit: i64| (seconds + unit / 2) / unit;
    match seconds {
        ..0 => "EXPIRED".to_owned(),
        0..7_200 => format!("{} minutes left", of(60)),
        7_200..172_800 => format!("{} hours left", of(3_600)),
        _ => format!("{} days left", of(86_400)),
    }
}

pub(super) fn certificate_text(
    out: &mut String,
    certificate: &CertificateStatus,
    now: Timestamp,
) -> std::fmt::Result {
    let left = left(certificate.not_after.as_second() - now.as_second());
    writeln!(out, "    subject     {}", certificate.subject)?;
    writeln!(out, "    issuer      {}", certificate.issuer)?;
    if !certificate.names.is_empty() {
        writeln!(out, "    names       {}", certificate.names.join(", "))?;
    }
    writeln!(
        out,
        "    valid       {} to {} ({left})",
        certificate.not_before, certificate.not_after
    )?;
    writeln!(out, "    thumbprint  {}", certificate.thumbprint)?;
    writeln!(out, "    SHA-256     {}", certificate.thumbprint_sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_validity_is_rounded_to_the_nearest() {
        for (seconds, said) in [
            (-1, "EXPIRED"),
            (0, "0 minutes left"),
            (90, "2 minutes left"),
            (7_199, "120 minutes left"),
            (7_200, "2 hours left"),
            (172_799, "48 hours left"),
            (90 * 86_400 - 1, "90 days left"),
            (90 * 86_400 - 43_201, "89 days left"),
        ] {
            assert_eq!(left(seconds), said, "{seconds}");
        }
    }
}
