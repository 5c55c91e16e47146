//! The site systems sections: the served certificate and the reason, and the listen addresses.

use jiff::Timestamp;
use maud::{Markup, html};

use super::table::{age, bare, row, table, time};
use crate::admin::status::{CertificateStatus, RejectedStatus, SiteSystemStatus, Status};

const DAY: i64 = 86_400;

pub(super) fn certificates(status: &Status, now: Timestamp) -> Markup {
    let columns = ["Site system", "Certificate", "Why this one", "Expires", "Next change"];
    let rows: Vec<Markup> = status
        .site_systems
        .iter()
        .map(|system| {
            let certificate = system.certificate.as_ref();
            let expires = certificate.map(|certificate| expiry(certificate, now));
            let next = match system.next_change {
                Some(at) if at > now => html! { (time(at)) div.quiet { "in " (age(at, now)) } },
                Some(at) => html! { (time(at)) },
                None => html! { span.quiet { "none by itself" } },
            };
            let cells =
                [name(system), shown(certificate), why(system), expires.unwrap_or_default(), next];
            row(&columns, &cells)
        })
        .collect();
    html! {
        section aria-labelledby="certificates" {
            h2 id="certificates" { "Site systems" }
            (bare("What each site system serves", &columns, &rows, "None is configured."))
            (rejected(status))
        }
    }
}

fn name(system: &SiteSystemStatus) -> Markup {
    html! {
        strong { (system.name) }
        div.quiet { (system.roles.join(", ")) }
        @if system.observes {
            span.badge.warn { "observes" }
            @if let Some(until) = system.observe_until { div.quiet { "until " (time(until)) } }
        }
    }
}

/// The badge of a source; the words are from a closed list.
fn badge(source: &str) -> Markup {
    match source {
        "pki" => html! { span.badge.pki { "PKI" } },
        "site-issued" => html! { span.badge.site { "site-issued" } },
        other => html! { span.badge { (other) } },
    }
}

fn shown(certificate: Option<&CertificateStatus>) -> Markup {
    let Some(certificate) = certificate else { return html! { span.badge.bad { "none" } } };
    html! {
        (badge(&certificate.source))
        div { (certificate.names.join(", ")) }
        div.quiet { "by " (certificate.issuer) }
        div.quiet.code { (certificate.thumbprint) }
    }
}

fn why(system: &SiteSystemStatus) -> Markup {
    html! {
        span.code { (system.reason) }
        div.quiet { "since " (time(system.since)) ", changed " (system.swaps) " times" }
        @if let Some(until) = system.stapled_until {
            div.quiet { "OCSP response until " (time(until)) }
        }
        @for warning in &system.warnings { div.warning { (warning) } }
        @if let Some(clients) = &system.clients {
            div.quiet {
                "client certificates by " (clients.authorities) " authorities and "
                (clients.crls) " CRLs"
            }
            @for problem in &clients.problems { div.warning { (problem) } }
        }
    }
}

/// The remaining lifetime of a certificate, as a bar and in words.
fn expiry(certificate: &CertificateStatus, now: Timestamp) -> Markup {
    let (from, to) = (certificate.not_before.as_second(), certificate.not_after.as_second());
    let left = to.saturating_sub(now.as_second());
    let life = to.saturating_sub(from).max(1);
    let share = (left.clamp(0, life) as f64 / life as f64 * 100.0).round();
    let class = match left {
        ..=0 => "bad",
        1..172_800 => "bad",
        _ if left < 14 * DAY && left < life / 3 => "warn",
        _ => "good",
    };
    html! {
        (time(certificate.not_after))
        svg.bar class=(class) viewBox="0 0 100 6" preserveAspectRatio="none" role="img"
            aria-label=(format!("{share} % of its lifetime left")) {
            rect.track x="0" y="0" width="100" height="6" {}
            rect x="0" y="0" width=(share) height="6" {}
        }
        @if left <= 0 {
            span.badge.bad { "expired" }
        } @else {
            div.quiet { (age(certificate.not_after, now)) " left" }
        }
    }
}

/// The rejected certificates, with the reasons.
fn rejected(status: &Status) -> Markup {
    let columns = ["Site system", "Source", "Why not", "How to fix it"];
    let of = |system: &SiteSystemStatus, rejected: &RejectedStatus| {
        let why = html! {
            span.code { (rejected.reason) }
            div { (rejected.title) }
            @if !rejected.detail.is_empty() { div.quiet { (rejected.detail) } }
            @if let Some(certificate) = &rejected.certificate {
                div.quiet { (certificate.subject) }
                div.quiet.code { (certificate.thumbprint) }
            }
        };
        let system = html! { (system.name) };
        row(&columns, &[system, badge(&rejected.source), why, html! { (rejected.hint) }])
    };
    let rows: Vec<Markup> = status
        .site_systems
        .iter()
        .flat_map(|system| system.rejected.iter().map(move |rejected| of(system, rejected)))
        .collect();
    html! {
        h3 { "Passed over" }
        (bare("Certificates that are not served", &columns, &rows, "None."))
    }
}

/// `none` is the version of a connection without TLS.
fn version_in_words(version: &str) -> String {
    match version {
        "none" => "plain HTTP".to_owned(),
        version => version.replace("v1_", " 1."),
    }
}

pub(super) fn bindings(status: &Status) -> Markup {
    let columns = ["Address", "Site system", "Names", "Backend", "Open connections"];
    let rows: Vec<Markup> = status
        .site_systems
        .iter()
        .map(|system| {
            let backend = html! {
                (system.backend)
                @for (role, backend) in &system.role_backends {
                    div.quiet { (role) ": " (backend) }
                }
            };
            let open = html! {
                @if system.connections.is_empty() { "0" }
                @for (version, count) in &system.connections {
                    div { (count) " " span.quiet { (version_in_words(version)) } }
                }
            };
            let cells = [
                html! {
                    (system.listen)
                    @if let Some(plain) = &system.plain_http {
                        div.quiet { "plain HTTP on " (plain.listen) ": " (plain.mode) }
                    }
                },
                html! { (system.name) },
                html! { (system.hosts.join(", ")) },
                backend,
                open,
            ];
            row(&columns, &cells)
        })
        .collect();
    table("bindings", "Bindings", &columns, &rows, "None is configured.")
}
