//! The recent denials section: the list, its filter form, and explanations of the codes.

use std::collections::BTreeSet;
use std::sync::Arc;

use maud::{Markup, html};

use super::table::{bare, row, time};
use crate::admin::denials::Filter;
use crate::denial::Denial;
use crate::log::{Recent, RecentDenial};

/// How many are shown by default: a page that refreshes itself should stay small.
const SHOWN: usize = 100;
const COLUMNS: [&str; 6] = ["Time", "Reason", "Site system", "Route", "Request", "Request id"];

pub(super) fn section(recent: &[Arc<RecentDenial>], filter: &Filter) -> Markup {
    let matching: Vec<&RecentDenial> =
        recent.iter().map(|denial| &**denial).filter(|denial| filter.takes(denial)).collect();
    let shown = if filter.all.is_empty() { SHOWN } else { Recent::MAX };
    let shown = matching.get(..shown).unwrap_or(&matching);
    let rows: Vec<Markup> = shown.iter().map(|denial| row(&COLUMNS, &cells(denial))).collect();
    let codes: BTreeSet<&str> = shown.iter().map(|denial| &*denial.reason).collect();
    html! {
        section aria-labelledby="denials" {
            h2 id="denials" { "Recent denials" }
            (form(recent, filter))
            p.quiet {
                "The newest " (shown.len()) " of " (matching.len()) " that match; the last "
                (Recent::MAX) " are kept here, all are in the access log."
                @if shown.len() < matching.len() {
                    " " a href=(format!("/?{}#denials", filter.query(Some(("all", "yes"))))) {
                        "Show all"
                    }
                }
            }
            (bare("The last refused requests", &COLUMNS, &rows, "None."))
            (explanations(&codes))
        }
    }
}

fn cells(denial: &RecentDenial) -> [Markup; 6] {
    let known = Denial::from_code(&denial.reason);
    let reason = html! {
        @match known {
            Some(known) => a.code href=(format!("#{}", known.code())) { (known.code()) },
            None => span.code { (denial.reason) },
        }
        @if let Some(known) = known { div.quiet { (known.title()) } }
        @if let Some(detail) = &denial.detail { div.quiet { (detail) } }
        @match &*denial.decision {
            "would-deny" => span.badge.warn { "forwarded (observed)" },
            "allowed" => span.badge.warn { "had passed" },
            _ => {},
        }
    };
    let request = html! {
        @if denial.method.is_empty() && denial.path.is_empty() {
            span.quiet { "not read" }
        } @else {
            span.code { (denial.method) " " (denial.path) }
        }
        div.quiet { (denial.status) " to " (denial.client) }
    };
    [
        time(denial.time),
        reason,
        html! { (denial.site_system) },
        html! { (route(denial)) },
        request,
        html! { span.code { (denial.request_id) } },
    ]
}

fn route(denial: &RecentDenial) -> &str {
    denial.route.as_deref().unwrap_or("none")
}

fn form(recent: &[Arc<RecentDenial>], filter: &Filter) -> Markup {
    let reasons = recent.iter().map(|denial| &*denial.reason);
    let systems = recent.iter().map(|denial| &*denial.site_system);
    let routes = recent.iter().map(|denial| route(denial));
    html! {
        form method="get" action="/" {
            (choice("reason", "Reason", &filter.reason, reasons))
            (choice("site_system", "Site system", &filter.site_system, systems))
            (choice("route", "Route", &filter.route, routes))
            @if filter.refresh == "off" { input type="hidden" name="refresh" value="off"; }
            button type="submit" { "Filter" }
            a href="/" { "Clear" }
        }
    }
}

/// The options are the values that occur, and the selected one.
fn choice<'a>(
    name: &str,
    label: &str,
    chosen: &'a str,
    there: impl Iterator<Item = &'a str>,
) -> Markup {
    let words: BTreeSet<&str> = there.chain([chosen]).filter(|word| !word.is_empty()).collect();
    html! {
        label {
            (label) " "
            select name=(name) {
                option value="" selected[chosen.is_empty()] { "any" }
                @for word in words { option value=(word) selected[word == chosen] { (word) } }
            }
        }
    }
}

fn explanations(codes: &BTreeSet<&str>) -> Markup {
    let known: Vec<Denial> = codes.iter().filter_map(|code| Denial::from_code(code)).collect();
    html! {
        @if !known.is_empty() {
            h3 { "What the reasons mean" }
            dl.why {
                @for denial in known {
                    div id=(denial.code()) {
                        dt.code { (denial.code()) }
                        dd { (denial.title()) div.quiet { (denial.hint()) } }
                    }
                }
            }
        }
    }
}
