//! Paths and what they require: one canonical reading of a path, and the table that judges it.
//!
//! No files, no sockets, no clock. Denies what it does not know, and never guesses what a backend
//! would make of a path that has two readings.

mod explain;
mod path;
mod presets;
mod query;
mod role;
mod table;
mod translate;

pub use path::{CanonicalPath, plainly_spelled};
pub use presets::{PUBLICATION, guarded, preset, presets, publication, token_service};
pub use query::{Asked, Queries, is_word};
pub use role::Role;
pub use table::{Destination, Pattern, Requirement, Route, RouteTable, TokenFacts, TokenHandling};
pub use translate::Translation;

#[cfg(test)]
mod tests;
