//! The architecture, the documents and the shipped configuration, as tests: each checks that a
//! statement in ARCHITECTURE.md, docs/ or config/ is true of the code.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a helper of a test fails as the test does"
)]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/configuration.rs"]
mod configuration;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/language.rs"]
mod language;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/operations.rs"]
mod operations;
#[path = "tidy/schema.rs"]
mod schema;
#[path = "tidy/source.rs"]
mod source;
