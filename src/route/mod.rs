//! Routing: the canonical form of a path, and the table that matches it.
//!
//! No files, no sockets, no clock. Denies unknown paths, and never guesses how a backend would read
//! an ambiguous one.

mod explain;
mod path;
mod pattern;
mod presets;
mod query;
mod role;
mod table;
mod translate;

pub use path::{CanonicalPath, plainly_spelled};
pub use pattern::Pattern;
pub use presets::{PUBLICATION, guarded, preset, presets, publication, token_service};
pub use query::{Queries, QueryAccess, is_word};
pub use role::Role;
pub use table::{Destination, Requirement, Route, RouteTable, TokenFacts, TokenHandling};
pub use translate::Translation;

#[cfg(test)]
mod tests;
