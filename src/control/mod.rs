//! The certificate road's impure half: files are watched and loaded, judged and selected, tried and
//! published.
//!
//! A broken file, folder or credential stops neither a port nor another site system. Nothing here
//! knows about requests.

mod address;
mod backends;
mod blocklist;
mod clients;
mod fetch;
mod key_cache;
mod keys;
pub mod machine;
mod pick;
mod provider;
mod remote_keys;
mod report;
mod rotation;
mod schedule;
mod served;
pub mod site_server;
mod store;
mod supply;
mod watch;
mod whole;

pub use backends::{BackendSeen, Backends};
pub use blocklist::{BlocklistFile, OnBlocklist};
pub use clients::{ClientFiles, ClientFilesState, OnClientFiles};
pub use fetch::{FetchError, FetchFault, Web};
pub use keys::{IssuerKeys, OnKeys};
pub use provider::Provider;
pub use remote_keys::{Fetched, OnFetch, RemoteKeys, RemoteParams, RemoteView};
pub use report::{Observer, Warning};
pub use rotation::{Nudge, Rotation, RotationParams};
pub use served::Served;
pub use store::{Candidate, Folder, KeyMode, Loaded, PFX_MAX, Store, pfx_names};
pub use supply::SiteIssued;
pub use watch::{Renames, Watch};
pub use whole::{Found, WholeFile, settle};
