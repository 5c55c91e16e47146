//! Resolves `site_system.mode` and `site_system.observe_until`.

use std::ops::Range;

use jiff::Timestamp;
use toml::value::Datetime;

use super::{ConfigError, ResolveScope};
use crate::clock::is_plausible;
use crate::config::code::ConfigCode;
use crate::config::file::ModeFile;
use crate::config::resolved::ObserveUntil;
use crate::config::spanned::Spanned;

/// The end of a site system's observe mode; `None` if it enforces.
///
/// A time too far ahead is an error. A time in the past is only a warning, and the site system
/// enforces: a restart years later must not fail because of it. Nor must a start before the
/// machine's clock is set, which enforces until the clock is right.
pub(super) fn resolve(
    mode: Option<Spanned<ModeFile>>,
    until: Option<Spanned<Datetime>>,
    span: Range<usize>,
    scope: &mut ResolveScope<'_>,
) -> Option<ObserveUntil> {
    let observes = mode.as_ref().is_some_and(|mode| *mode.get_ref() == ModeFile::Observe);
    if !observes {
        if let Some(until) = until {
            scope.conflict(
                until.span(),
                "observe_until without mode = \"observe\"",
                "write mode = \"observe\" beside it, or remove it",
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
            ConfigError::at(at, format!("requests that would be denied are forwarded until {end}"))
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
