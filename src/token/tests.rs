//! The room's tests: one forge that can make any token, and what must come of each.

mod assertions;
mod attacks;
mod blocking;
mod caching;
mod forge;
mod identities;
mod key_files;
mod minting;
mod properties;
