//! Tests of the module, with a forge that can make any token.

mod assertions;
mod attacks;
mod blocking;
mod caching;
mod forge;
mod identities;
mod key_files;
mod minting;
mod properties;
