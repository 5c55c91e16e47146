//! The program as its users meet it: a real process between real clients and real servers on
//! loopback. One module per area, one function per scenario.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

mod support;

mod backend_health;
mod backends;
mod balancers;
mod blocklist;
mod broken;
mod cert;
mod certificates;
mod configuration;
mod content;
mod differential;
mod doctor;
mod documents;
mod downloads;
mod exchange;
mod explain;
mod foreign;
mod frames;
mod framing;
mod guard;
mod http2;
mod in_flight;
mod issuers;
mod lasting;
mod lies;
mod limits;
mod links;
mod logs;
mod machine;
mod messages;
mod mixed;
mod observing;
mod overload;
mod page;
mod plain_http;
mod prometheus;
mod records;
mod roles;
mod rollover;
mod runbook;
mod servers;
mod simulated;
mod site_server;
mod soak;
mod state;
mod states;
mod store;
mod store_health;
mod tls;
mod token_service;
mod tokens;
mod trust;
mod unserved;
mod websockets;
mod windows;
