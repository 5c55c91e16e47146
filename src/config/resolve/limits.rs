//! `[limits]`

use std::time::Duration;

use super::Scope;
use crate::config::file::LimitsFile;
use crate::config::resolved::{ConnLimits, Limits};
use crate::config::spanned::Spanned;
use crate::config::units::Span;

pub(super) fn resolve(file: LimitsFile, scope: &mut Scope<'_>) -> Limits {
    let default = ConnLimits::default();
    let mut time = |value: Option<Spanned<Span>>, key: &str, default: Duration| match value {
        Some(v) if v.get_ref().0.is_zero() => {
            scope.error(v.span(), format!("{key} must be more than nothing"));
            default
        }
        Some(v) => v.get_ref().0,
        None => default,
    };
    let connection = ConnLimits {
        handshake_time: time(file.handshake_time, "handshake_time", default.handshake_time),
        header_time: time(file.header_time, "header_time", default.header_time),
        idle_time: time(file.idle_time, "idle_time", default.idle_time),
        body_grace: time(file.body_grace, "body_grace", default.body_grace),
        send_stall: time(file.send_stall, "send_stall", default.send_stall),
        ..default
    };
    let drain_time = time(file.drain_time, "drain_time", Duration::from_secs(600));
    let mut count = |value: Option<Spanned<u32>>, key: &str, default: usize| match value {
        Some(v) if *v.get_ref() == 0 => {
            scope.error(v.span(), format!("{key} must be at least 1"));
            default
        }
        Some(v) => *v.get_ref() as usize,
        None => default,
    };
    let connection = ConnLimits {
        connections_max: count(file.connections, "connections", default.connections_max),
        handshakes_max: count(file.handshakes, "handshakes", default.handshakes_max),
        per_address_max: file.per_address.map(|v| count(Some(v), "per_address", usize::MAX)),
        body_bytes_per_second: file
            .body_bytes_per_second
            .map_or(default.body_bytes_per_second, Spanned::into_inner),
        ..connection
    };
    let token_cache = count(file.token_cache, "token_cache", 100_000);
    let headers = match file.headers {
        // What the parser takes at most.
        Some(v) if !(1..=256).contains(v.get_ref()) => {
            scope.error(v.span(), "headers must be between 1 and 256");
            128
        }
        Some(v) => usize::from(v.into_inner()),
        None => 128,
    };
    let mut bytes = |value: Option<Spanned<crate::config::Size>>, key: &str, default: usize| {
        let Some(v) = value else { return default };
        match v.get_ref().0 {
            // pingora's own ceiling is 1 MiB, and a head that large is no head.
            n @ 1024..=524_288 => n as usize,
            _ => {
                scope.error(v.span(), format!("{key} must be between 1KiB and 512KiB"));
                default
            }
        }
    };
    Limits {
        connection: ConnLimits {
            header_bytes: bytes(file.header_bytes, "header_bytes", default.header_bytes),
            ..connection
        },
        uri_bytes: bytes(file.uri_bytes, "uri_bytes", 16 * 1024),
        threads: file.threads.map_or(0, |v| usize::from(v.into_inner())),
        headers,
        drain_time,
        token_cache,
    }
}
