//! Who may import whom, and which room may use which outside crate.

use crate::source::{Source, product};

/// The layers from the ground up. A room may import rooms of lower layers, and of its own layer
/// where the layer says so.
const LAYERS: &[(&[&str], bool)] = &[
    (
        &[
            "anchor",
            "backend_health",
            "clock",
            "denial",
            "encoding",
            "grant_denial",
            "live",
            "lost",
            "metrics",
            "pem",
            "purpose",
            "rate",
            "refetch",
            "secret",
            "unfit",
        ],
        true,
    ),
    (&["cert", "client", "message", "route", "token"], false),
    (&["config"], true),
    (&["admin", "control", "front", "gateway", "log", "site", "tls"], true),
    (&["sim"], true),
    (&["app", "cli"], true),
];

/// Imports that the layers would allow and that are forbidden all the same.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "gateway",
        "control",
        "what it needs of certificates and keys is handed to it as a live value",
    ),
    ("gateway", "cert", "requests are judged without a look at what is served"),
];

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|(rooms, _)| rooms.contains(&room))
}

fn faults_of_layers(source: &Source) -> Vec<String> {
    let room = source.room();
    if matches!(room, "lib" | "main") {
        return Vec::new();
    }
    let Some(own) = layer(room) else {
        return vec![format!(
            "src/{}: the room '{room}' is in no layer; add it to LAYERS",
            source.path
        )];
    };
    let mut faults = Vec::new();
    for used in source.uses() {
        let [first, other, ..] = used.segments.as_slice() else { continue };
        if first != "crate" || other == room {
            continue;
        }
        let at = source.at(used.line);
        let Some(theirs) = layer(other) else {
            if other.starts_with(char::is_lowercase) {
                faults.push(format!("{at}: '{other}' is in no layer; add it to LAYERS"));
            }
            continue;
        };
        let siblings = LAYERS.get(own).is_some_and(|(_, siblings)| *siblings);
        if theirs > own || (theirs == own && !siblings) {
            faults.push(format!(
                "{at}: {room} imports {other}, which stands above or beside it; pass the value in as an argument, or move it down"
            ));
        }
        if let Some((_, _, instead)) = FORBIDDEN.iter().find(|(a, b, _)| *a == room && b == other) {
            faults.push(format!("{at}: {room} must not import {other}: {instead}"));
        }
    }
    faults
}

/// Where pingora's own types are known. The lane for ordinary requests and whatever decides are not
/// among these files, so that both lanes share them.
const PINGORA: &[&str] = &[
    "front/pingora.rs",
    "front/shard.rs",
    "gateway/mod.rs",
    "gateway/phases.rs",
    "gateway/answer.rs",
    "gateway/arrival.rs",
    "gateway/bootstrap.rs",
    "gateway/hollow.rs",
    "gateway/linked.rs",
    "gateway/record.rs",
    "gateway/rewrite.rs",
    "gateway/server.rs",
    "gateway/switch.rs",
    "gateway/upstream.rs",
    "gateway/view.rs",
    "gateway/witness.rs",
];

/// What may be used in a few places alone: a path, and where.
const DOORS: &[(&str, &[&str])] = &[
    ("notify", &["control/watch.rs", "control/watch/", "control/whole/tests.rs"]),
    ("reqwest", &["control/fetch.rs", "control/site_server/link.rs"]),
    ("sqlx", &["site/store.rs", "site/store/"]),
    ("rcgen", &["cert/issuer.rs", "cert/issuer/", "cert/request.rs", "cert/forge.rs"]),
    ("p12_keystore", &["cert/pfx.rs", "cert/forge.rs"]),
    ("x509_ocsp", &["cert/ocsp.rs", "cert/forge.rs"]),
    ("der", &["cert/ocsp.rs", "cert/forge.rs"]),
    ("rustls_pki_types::pem", &["pem.rs", "cert/forge.rs", "sim/", "cli/"]),
    ("quick_xml", &["message/xml.rs"]),
    ("flate2", &["message/inflate.rs", "sim/messages.rs"]),
    ("nix", &["front/low_water.rs"]),
    ("maud", &["admin/page/"]),
    ("schemars", &["config/"]),
    ("clap_complete", &["cli/"]),
    ("clap_mangen", &["cli/"]),
    ("arc_swap", &["live.rs"]),
    ("prometheus", &["metrics.rs", "metrics/"]),
    ("pingora_core", PINGORA),
    ("pingora_proxy", PINGORA),
    ("pingora_http", PINGORA),
    ("std::time::SystemTime", &["clock.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("Timestamp::now", &["clock.rs"]),
    ("jiff::Timestamp::now", &["clock.rs"]),
    ("jiff::Zoned::now", &["clock.rs"]),
    ("Zoned::now", &["clock.rs"]),
    ("std::fs", FILES),
    ("tokio::fs", FILES),
];

const FILES: &[&str] =
    &["control/", "site/", "config/", "log/", "sim/", "secret.rs", "admin/", "cli/"];

const SPAWNS: &[&str] = &["app.rs", "app/", "front/", "sim/"];

fn faults_of_doors(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for used in source.uses() {
        for (door, places) in DOORS {
            let wanted: Vec<&str> = door.split("::").collect();
            let begins = used.segments.len() >= wanted.len()
                && used.segments.iter().zip(&wanted).all(|(a, b)| a == b);
            if begins && !source.is_in(places) {
                let at = source.at(used.line);
                faults.push(format!("{at}: {door} may be used in {} alone", places.join(", ")));
            }
        }
    }
    for (n, line) in source.code.lines().enumerate() {
        let spawns = ["spawn(", "spawn_local(", "spawn_blocking(", "spawn_on(", "spawn_scoped("];
        let called = |name: &&str| {
            line.match_indices(*name).any(|(at, _)| {
                line.get(..at).is_some_and(|b| b.ends_with('.') || b.ends_with("::"))
            })
        };
        if spawns.iter().any(called) && !source.is_in(SPAWNS) {
            let at = source.at(n + 1);
            faults.push(format!(
                "{at}: tasks and threads are started in {} alone; return a future or take a handle",
                SPAWNS.join(", ")
            ));
        }
    }
    faults
}

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_room_imports_only_from_the_layers_below_it() {
    report(product().iter().flat_map(faults_of_layers).collect());
}

#[test]
fn outside_crates_files_the_clock_and_tasks_each_have_their_doors() {
    report(product().iter().flat_map(faults_of_doors).collect());
}

#[test]
fn the_checks_of_layers_and_doors_find_what_they_are_for() {
    for (path, text) in [
        ("cert/x.rs", "use crate::{denial, token::KeySet};"),
        ("denial.rs", "fn f() { crate::config::load(x) }"),
        ("gateway/x.rs", "use crate::control::Served;"),
        ("gateway/x.rs", "use super::super::cert::Source;"),
        ("tls/x.rs", "use crate::app::launch;"),
        ("newroom/x.rs", ""),
    ] {
        assert!(!faults_of_layers(&Source::new(path, text)).is_empty(), "{path}: {text}");
    }
    for (path, text) in [
        ("control/store.rs", "use notify::Watcher;"),
        ("cert/check.rs", "fn f() { rcgen::generate() }"),
        ("route/x.rs", "use std::{fs, io};"),
        ("token/x.rs", "let now = Timestamp::now();"),
        ("control/x.rs", "tokio::spawn(async {});"),
        ("control/x.rs", "set.spawn(async {});"),
        ("tls/x.rs", "use pingora_core::Error;"),
        ("gateway/x.rs", "use arc_swap::ArcSwap;"),
        ("cli/x.rs", "use schemars::JsonSchema;"),
    ] {
        assert!(!faults_of_doors(&Source::new(path, text)).is_empty(), "{path}: {text}");
    }
    let allowed = "use notify::Watcher; fn f() { sd_notify::notify(x); std::fs::read(y); }";
    assert_eq!(faults_of_doors(&Source::new("control/watch.rs", allowed)), [""; 0]);
    assert_eq!(faults_of_layers(&Source::new("control/x.rs", "use crate::tls::trial;")), [""; 0]);
}
