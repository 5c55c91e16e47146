//! Bar charts of the last hour: server-side SVG, from numbers alone.

use maud::{Markup, html};

use crate::admin::history::Interval;

/// The height of a plot, and the width of one minute in it, in SVG units.
const HEIGHT: u64 = 60;
const STEP: usize = 5;
const BAR: usize = 4;
/// An hour, and the current minute.
const BARS: usize = 61;

pub(super) fn section(hour: &[Interval]) -> Markup {
    html! {
        section aria-labelledby="hour" {
            h2 id="hour" { "The last hour" }
            div.plots {
                (plot("Requests", "requests", hour, |interval| interval.requests))
                (plot("Denials", "denials", hour, |interval| interval.denials))
                (plot("TLS handshakes", "handshakes", hour, |interval| interval.handshakes))
                (plot("Token cache hits", "hits", hour, |interval| interval.token_cache_hits))
            }
        }
    }
}

fn plot(title: &str, class: &str, hour: &[Interval], of: impl Fn(&Interval) -> u64) -> Markup {
    let newest = hour.get(hour.len().saturating_sub(BARS)..).unwrap_or_default();
    let (total, most) =
        newest.iter().map(&of).fold((0, 0), |(sum, most), n| (sum + n, n.max(most)));
    // The newest bar is at the right, also before there is a full hour.
    let first = BARS - newest.len().min(BARS);
    let said = format!("{title} in the last hour: {total} in all, {most} in the busiest minute");
    html! {
        figure {
            figcaption {
                (title) " " strong { (total) }
                span.quiet { " at most " (most) " a minute" }
            }
            svg class=(class) role="img" aria-label=(said) preserveAspectRatio="none"
                viewBox=(format!("0 0 {} {HEIGHT}", BARS * STEP)) {
                line.axis x1="0" y1=(HEIGHT) x2=(BARS * STEP) y2=(HEIGHT) {}
                @for (n, interval) in newest.iter().enumerate() {
                    @let (x, height) = ((first + n) * STEP, height(of(interval), most));
                    rect x=(x) y=(HEIGHT - height) width=(BAR) height=(height) {
                        title { (interval.from.strftime("%H:%M")) "Z: " (of(interval)) }
                    }
                }
            }
        }
    }
}

/// The height of a bar: one above zero is always visible.
fn height(value: u64, most: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(HEIGHT) / u128::from(most.max(1));
    u64::try_from(scaled).unwrap_or(HEIGHT).max(u64::from(value > 0)).min(HEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_in_their_plot_and_what_is_not_nothing_is_seen() {
        for (value, most, wanted) in
            [(0, 0, 0), (0, 9, 0), (1, 1_000_000, 1), (9, 9, 60), (u64::MAX, u64::MAX, 60)]
        {
            assert_eq!(height(value, most), wanted, "{value} of {most}");
        }
    }
}
