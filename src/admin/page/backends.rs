//! The backends section: whether each address responds, how fast, and the last failure.

use jiff::Timestamp;
use maud::{Markup, html};

use super::table::{age, row, table, time};
use crate::admin::status::{BackendAddressStatus, BackendStatus, Status};

pub(super) fn section(status: &Status, now: Timestamp) -> Markup {
    let columns = ["Backend", "Site systems", "Address", "State", "Last failure"];
    let rows: Vec<Markup> =
        status.backends.iter().flat_map(|backend| of(&columns, backend, now)).collect();
    table("backends", "Backends", &columns, &rows, "None is configured.")
}

fn of(columns: &[&str], backend: &BackendStatus, now: Timestamp) -> Vec<Markup> {
    let name = || {
        html! {
            (backend.name)
            @if let Some(ms) = backend.first_byte_ms {
                div.quiet { "answers after " (format!("{ms:.1}")) " ms on average" }
            }
        }
    };
    let systems = || html! { (backend.site_systems.join(", ")) };
    if backend.addresses.is_empty() {
        let none = html! { span.badge.bad { "does not resolve" } };
        return vec![row(columns, &[name(), systems(), html! { "none" }, none, html! {}])];
    }
    let each = backend.addresses.iter().map(|at| {
        row(columns, &[name(), systems(), html! { (at.address) }, state(at, now), failure(at)])
    });
    each.collect()
}

fn state(at: &BackendAddressStatus, now: Timestamp) -> Markup {
    html! {
        @match at.state.as_str() {
            "up" => span.badge.good { "up" },
            "down" => span.badge.bad { "down" },
            _ => span.quiet { "no request yet" },
        }
        @if let Some(since) = at.since { div.quiet { "for " (age(since, now)) } }
        @if at.state == "down" && let Some(success) = at.last_success {
            div.quiet { "last answer " (time(success)) }
        }
    }
}

fn failure(at: &BackendAddressStatus) -> Markup {
    let Some(failed) = at.last_failure else { return html! { span.quiet { "none" } } };
    html! {
        (time(failed))
        div.code { (at.reason.as_deref().unwrap_or_default()) }
        div.quiet { (at.detail.as_deref().unwrap_or_default()) }
        @if at.state == "down" { div { (at.hint.as_deref().unwrap_or_default()) } }
    }
}
