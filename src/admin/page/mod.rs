//! The admin page: status and recent denials as HTML.
//!
//! Owns the only use of `maud`, which escapes all values. No script, and no client input is ever
//! used as markup, class name or URL.

mod backends;
mod denials;
mod plots;
mod systems;
mod table;

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest;
use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::denials::Filter;
use super::status::Status;
use crate::log::RecentDenial;
use table::{age, row, table, time};

const STYLE: &str = include_str!("style.css");
/// The refresh interval of the page, in seconds.
const REFRESH: u32 = 15;
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Cpath fill='%230b6bcb' d='M0 8V3l4-3 4 3v5H6V4H2v4z'/%3E%3C/svg%3E";

/// The Content Security Policy (Level 3) of the page: only its own inline style.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self' data:; base-uri 'none'; \
         frame-ancestors 'none'; form-action 'self'"
    )
});

/// The page as HTML.
pub(super) fn render(
    status: &Status,
    recent: &[Arc<RecentDenial>],
    filter: &Filter,
    now: Timestamp,
) -> String {
    let refreshes = filter.refresh != "off";
    let again = format!("{REFRESH}; url=/?{}", filter.query(None));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if refreshes { meta http-equiv="refresh" content=(again); }
                title { "sitegate " (status.site.code) }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { (heading(status, now)) (refreshing(refreshes, filter)) }
                main {
                    (plots::section(&status.last_hour))
                    (systems::certificates(status, now))
                    (systems::bindings(status))
                    (backends::section(status, now))
                    (issuers(status, now))
                    (site_server(status, now))
                    (denials::section(recent, filter))
                }
                footer {
                    p {
                        "The same for scripts: "
                        a href="/api/v1/status" { "status" } ", "
                        a href="/api/v1/denials" { "denials" } ", "
                        a href="/metrics" { "metrics" } "."
                    }
                }
            }
        }
    }
    .into_string()
}

fn heading(status: &Status, now: Timestamp) -> Markup {
    html! {
        h1 { "Site " (status.site.code) }
        p {
            @if status.ready { span.badge.good { "ready" } } @else { span.badge.bad { "not ready" } }
            " sitegate " (status.version) ", running for " (age(status.started, now)) ", "
            (status.connections) " open connections"
        }
        @if !status.not_ready.is_empty() {
            ul.faults { @for reason in &status.not_ready { li { (reason) } } }
        }
        @for warning in &status.warnings { p.warning { (warning) } }
        dl {
            @if !status.site.domains.is_empty() {
                div { dt { "Domains" } dd { (status.site.domains.join(", ")) } }
            }
            @if let Some(hierarchy) = &status.site.hierarchy {
                div { dt { "Hierarchy" } dd { (hierarchy) } }
            }
            div { dt { "Token issuer" } dd { (status.site.token_issuer) } }
            div {
                dt { "Configuration" }
                dd { (status.config.path) ", in force since " (time(status.config.since)) }
            }
        }
        @if let Some(error) = &status.config.error {
            div.faults {
                p { "The file has errors; the previous configuration stays in force:" }
                pre { (error) }
            }
        }
    }
}

fn refreshing(refreshes: bool, filter: &Filter) -> Markup {
    let link = |word: &str| format!("/?{}", filter.query(Some(("refresh", word))));
    html! {
        p.quiet {
            @if refreshes {
                "Reloads every " (REFRESH) " seconds. "
                a href=(link("off")) { "Stop that" }
            } @else {
                "Does not reload automatically. " a href=(link("")) { "Do that" }
            }
        }
    }
}

fn issuers(status: &Status, now: Timestamp) -> Markup {
    let columns = ["Issuer", "Accepts", "Audiences", "Usable keys", "Last fetched"];
    let rows = status.issuers.iter().map(|issuer| {
        let keys = html! {
            @if issuer.keys == 0 { span.badge.bad { "none" } } @else { (issuer.keys) }
            @for problem in &issuer.problems { div.warning { (problem) } }
            @if !issuer.key_ids.is_empty() { div.quiet { (issuer.key_ids.join(", ")) } }
        };
        let fetched = match (&issuer.keys_from, issuer.keys_fetched) {
            (None, _) => html! { "from files" },
            (Some(from), Some(at)) => html! { (age(at, now)) " ago" div.quiet { (from) } },
            (Some(from), None) => html! { span.badge.bad { "never" } div.quiet { (from) } },
        };
        let words = |list: &[String]| html! { (list.join(", ")) };
        let name = html! { (issuer.name) };
        let cells = [name, words(&issuer.accepts), words(&issuer.audiences), keys, fetched];
        row(&columns, &cells)
    });
    table("issuers", "Token issuers", &columns, &rows.collect::<Vec<_>>(), "None is configured.")
}

fn site_server(status: &Status, now: Timestamp) -> Markup {
    let Some(server) = &status.site_server else { return html! {} };
    html! {
        section aria-labelledby="site-server" {
            h2 id="site-server" { "Site server" }
            dl {
                div { dt { "This gateway" } dd { (server.gateway) } }
                div { dt { "Servers" } dd { (server.servers.join(", ")) } }
                @match (server.version, server.issued, server.expires) {
                    (Some(version), Some(issued), Some(expires)) => {
                        div { dt { "Bundle" } dd { "version " (version) ", " (age(issued, now)) " old" } }
                        div {
                            dt { "Good until" }
                            dd {
                                (time(expires)) " "
                                @if expires <= now { span.badge.bad { "expired" } }
                            }
                        }
                        div { dt { "Blocks" } dd { (server.blocks) } }
                    }
                    _ => { div { dt { "Bundle" } dd { span.badge.bad { "has not joined yet" } } } }
                }
                @for warning in &server.warnings {
                    div { dt { "Warning" } dd { span.badge.bad { (warning) } } }
                }
            }
        }
    }
}
