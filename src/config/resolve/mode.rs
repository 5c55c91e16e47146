//! `site_system.mode` and `site_system.observe_until`

use std::ops::Range;

use jiff::Timestamp;
use toml::value::Datetime;

use super::{ConfigError, Scope};
use crate::clock::is_plausible;
use crate::config::code::ConfigCode;
use crate::config::file::ModeFile;
use crate::config::resolved::ObserveUntil;
use crate::config::spanned::Spanned;

/// Until when a site system observes; `None` if it enforces.
///
/// A time that is too far ahead is an error of whoever is typing it. One that has passed is only a
/// warning, and enforces: a restart years later must not fail over it. Nor must one before the
/// machine's clock is set, which enforces until it is.
pub(super) fn resolve(
    mode: Option<Spanned<ModeFile>>,
    until: Option<Spanned<Datetime>>,
    span: Range<usize>,
    scope: &mut Scope<'_>,
) -> Option<ObserveUntil> {
    let observes = mode.as_ref().is_some_and(|mode| *mode.get_ref() == ModeFile::Observe);
    if !observes {
        if let Some(until) = until {
            scope.conflict(
                until.span(),
                "observe_until without mode = \"observe\"",
                "write mode = \"observe\" beside it, or leave it out",
            );
        }
        return None;
    }
    let at = mode.map_or(span, |mode| mode.span());
    let hint = format!("for example observe_until = {}", example(scope.now));
    let Some(until) = until else {
        scope.conflict(at, "mode = \"observe\" needs an end", hint);
        return None;
    };
    let Ok(end) = until.get_ref().to_string().parse::<Timestamp>() else {
        scope.hinted(until.span(), "observe_until is not a time with an offset from UTC", hint);
        return None;
    };
    let observe = ObserveUntil(end);
    if end <= scope.now {
        scope.errors.push(
            ConfigError::at(until.span(), "observe_until has passed, so the site system enforces")
                .hint("write mode = \"enforce\", or a later time")
                .warning(),
        );
    } else if !observe.holds(scope.now) && is_plausible(scope.now) {
        let message =
            format!("observe_until is more than {} days from now", ObserveUntil::DAYS_MAX);
        scope.hinted(until.span(), message, hint);
    } else {
        scope.errors.push(
            ConfigError::at(at, format!("requests that would be denied go on until {end}"))
                .code(ConfigCode::Open)
                .hint("mode = \"observe\" is for finding out what would be denied; end it soon")
                .warning(),
        );
    }
    Some(observe)
}

/// A month from now, at midnight.
fn example(now: Timestamp) -> String {
    let midnight = (now.as_second() / 86_400 + 30) * 86_400;
    crate::clock::second(midnight).to_string()
}
