//! Import rules: the layers of modules, and the modules that may use an external crate.

use crate::source::{Source, product, unshipped};

/// The layers from the ground up. A module may import modules of lower layers, and of its own layer
/// if the layer says so.
const LAYERS: &[(&[&str], bool)] = &[
    (
        &[
            "anchor",
            "backend_health",
            "clock",
            "denial",
            "encoding",
            "grant_denial",
            "gzip",
            "line_file",
            "live",
            "local_service",
            "thread_guard",
            "metrics",
            "os",
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
    (&["app", "cli"], true),
];

/// Imports that the layers would allow, but that are forbidden.
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
    for used in &source.uses {
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

/// The files that may use pingora's types: none that judges requests or runs exchanges.
const PINGORA: &[&str] = &[
    "front/pingora.rs",
    "front/process_state.rs",
    "front/shard.rs",
    "gateway/server.rs",
    "gateway/session/http2.rs",
];

/// Paths that only a few files may use.
const DOORS: &[(&str, &[&str])] = &[
    ("notify", &["control/watch.rs", "control/watch/", "control/whole_file/tests.rs"]),
    ("reqwest", &["control/fetch.rs", "control/site_server/link.rs"]),
    ("sqlx", &["site/store.rs", "site/store/"]),
    ("rcgen", &["cert/issuer.rs", "cert/issuer/", "cert/request.rs", "cert/template.rs"]),
    ("p12_keystore", &["cert/pfx.rs"]),
    ("x509_ocsp", &["cert/ocsp.rs"]),
    ("der", &["cert/ocsp.rs"]),
    ("rustls_pki_types::pem", &["pem.rs", "cli/"]),
    ("quick_xml", &["message/xml.rs"]),
    ("flate2", &["gzip.rs", "message/inflate.rs"]),
    ("nix", OS),
    ("rustix", OS),
    ("sd_notify", OS),
    ("std::os::unix", OS),
    ("std::os::fd", OS),
    ("tokio::signal", OS),
    ("tokio::net::UnixStream", OS),
    ("tokio::net::UnixListener", OS),
    ("maud", &["admin/page/"]),
    ("schemars", &["config/"]),
    ("clap_complete", &["cli/"]),
    ("clap_mangen", &["cli/"]),
    ("arc_swap", &["live.rs"]),
    ("prometheus", &["metrics.rs", "metrics/"]),
    ("pingora_core", PINGORA),
    ("h2", &["gateway/session/http2.rs"]),
    ("std::time::SystemTime", CLOCK),
    ("SystemTime::now", CLOCK),
    ("Timestamp::now", CLOCK),
    ("jiff::Timestamp::now", CLOCK),
    ("jiff::Zoned::now", CLOCK),
    ("Zoned::now", CLOCK),
    ("std::fs", FILES),
    ("tokio::fs", FILES),
];

/// Also the only places of all crates.
const CLOCK: &[&str] = &["clock.rs"];

const FILES: &[&str] =
    &["control/", "site/", "config/", "log/", "line_file.rs", "secret.rs", "os/", "admin/", "cli/"];

/// The only module that names an operating system, and tests.
const OS: &[&str] = &["os/"];

/// The files that may spawn tasks. Each HTTP/2 stream is a task, and a long bundle is signed on a
/// thread of its own.
const SPAWNS: &[&str] =
    &["app.rs", "app/", "front/", "gateway/session/http2.rs", "site/server/documents.rs"];

fn faults_of_doors(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for used in &source.uses {
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

/// The modules of sitegate that simulated clients and site systems may use: they are peers of the
/// gateway, and share no decision with it. The lab's command line alone starts gateways.
const SHARED_WITH_LAB: &[&str] = &["clock", "os", "token"];

fn faults_of_unshipped(source: &Source) -> Vec<String> {
    let is_lab = source.folder == "lab/src";
    let is_top = is_lab && source.is_in(&["cli/", "main.rs"]);
    let mut faults = Vec::new();
    for used in &source.uses {
        let at = source.at(used.line);
        let [first, second, ..] = used.segments.as_slice() else { continue };
        match first.as_str() {
            "sitegate" | "sitegate_lab" if !is_lab => {
                faults.push(format!("{at}: sitegate-forge uses nothing of sitegate"));
            }
            "sitegate" if !is_top && !SHARED_WITH_LAB.contains(&second.as_str()) => {
                faults.push(format!(
                    "{at}: outside cli/ the lab uses only {} of sitegate",
                    SHARED_WITH_LAB.join(", ")
                ));
            }
            "crate" if is_lab && !is_top && second == "cli" => {
                faults.push(format!("{at}: the lab's command line stands above this module"));
            }
            _ => {}
        }
        let clock = DOORS.iter().filter(|(_, places)| *places == CLOCK);
        for (door, _) in clock {
            if used.segments.join("::").starts_with(door) {
                faults.push(format!("{at}: {door}: take sitegate's clock, or the time"));
            }
        }
    }
    faults
}

/// The lines of a file of the shipped crate that name a crate that is not shipped.
fn faults_of_shipping(source: &Source) -> Vec<String> {
    let named = |line: &str| ["sitegate_lab", "sitegate_forge"].iter().any(|c| line.contains(c));
    let lines = source.code.lines().enumerate().filter(|(_, line)| named(line));
    lines.map(|(n, _)| format!("{}: only tests use the lab", source.at(n + 1))).collect()
}

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_room_imports_only_from_the_layers_below_it() {
    report(product().iter().flat_map(faults_of_layers).collect());
}

#[test]
fn crates_files_clock_and_tasks_are_used_only_at_their_doors() {
    report(product().iter().flat_map(faults_of_doors).collect());
}

#[test]
fn the_lab_uses_of_sitegate_what_it_may() {
    report(unshipped().iter().flat_map(faults_of_unshipped).collect());
}

#[test]
fn the_shipped_crate_names_the_lab_in_tests_alone() {
    report(product().iter().flat_map(faults_of_shipping).collect());
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
        ("control/cert_folder.rs", "use notify::Watcher;"),
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
    for (folder, path, text) in [
        ("lab/forge/src", "x.rs", "use sitegate::unfit::Unfit;"),
        ("lab/src", "x.rs", "use sitegate::config::Config;"),
        ("lab/src", "x.rs", "use crate::cli::LabCli;"),
        ("lab/src", "cli/x.rs", "let now = jiff::Timestamp::now();"),
    ] {
        let source = Source { folder, ..Source::new(path, text) };
        assert!(!faults_of_unshipped(&source).is_empty(), "{folder}/{path}: {text}");
    }
    let lab = "use sitegate_lab::Load;";
    assert!(!faults_of_shipping(&Source::new("app/x.rs", lab)).is_empty());
    let tested = format!("#[cfg(test)]\nmod tests {{ {lab} }}");
    assert_eq!(faults_of_shipping(&Source::new("app/x.rs", &tested)), [""; 0]);
    let allowed = "use notify::Watcher; fn f() { memchr::memchr(x); std::fs::read(y); }";
    assert_eq!(faults_of_doors(&Source::new("control/watch.rs", allowed)), [""; 0]);
    assert_eq!(faults_of_layers(&Source::new("control/x.rs", "use crate::tls::trial;")), [""; 0]);
}
