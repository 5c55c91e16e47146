//! Responsive tables (cards on a small screen), and the format of times.
//!
//! The ARIA roles are explicit, because otherwise screen readers do not recognize a table that is
//! shown as cards.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::clock::span;

/// A section with one table. `id` is a constant.
pub(super) fn table(
    id: &str,
    caption: &str,
    columns: &[&str],
    rows: &[Markup],
    none: &str,
) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (caption) }
            (bare(caption, columns, rows, none))
        }
    }
}

/// Only the table.
pub(super) fn bare(caption: &str, columns: &[&str], rows: &[Markup], none: &str) -> Markup {
    html! {
        @if rows.is_empty() {
            p.quiet { (none) }
        } @else {
            table role="table" {
                caption { (caption) }
                thead role="rowgroup" {
                    tr role="row" {
                        @for column in columns { th role="columnheader" scope="col" { (column) } }
                    }
                }
                tbody role="rowgroup" { @for row in rows { (row) } }
            }
        }
    }
}

/// A row: each cell carries its column's name, for the card layout without a header.
pub(super) fn row(columns: &[&str], cells: &[Markup]) -> Markup {
    html! {
        tr role="row" {
            @for (column, cell) in columns.iter().zip(cells) {
                td role="cell" data-label=(column) { div { (cell) } }
            }
        }
    }
}

/// A time, to the second, UTC.
pub(super) fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (at.strftime("%Y-%m-%d %H:%M:%SZ")) } }
}

/// The time between then and now, past or future, in the unit that fits.
pub(super) fn age(at: Timestamp, now: Timestamp) -> String {
    span(now.as_second().abs_diff(at.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::second;

    #[test]
    fn an_age_has_the_largest_fitting_unit() {
        for (seconds, told) in [
            (5, "5 seconds"),
            (-5, "5 seconds"),
            (600, "10 minutes"),
            (7_200, "2 hours"),
            (200_000, "2 days"),
            (-7_776_000, "90 days"),
        ] {
            assert_eq!(age(second(1_000_000_000), second(1_000_000_000 + seconds)), told);
        }
    }
}
