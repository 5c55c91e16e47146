//! The certificate road's impure half: files are watched and loaded, judged and selected, tried and
//! published.
//!
//! A broken file, folder or credential stops neither a port nor another site system. Nothing here
//! knows about requests.

mod backends;
mod clients;
mod keys;
mod pick;
mod report;
mod rotation;
mod served;
mod store;
mod supply;
mod watch;

pub use backends::{Backends, HostPort};
pub use clients::{ClientFiles, ClientFilesState, OnClientFiles};
pub use keys::{IssuerKeys, OnKeys};
pub use report::{Observer, Warning};
pub use rotation::{Nudge, Rotation, RotationParams};
pub use served::Served;
pub use store::{Candidate, Folder, KeyMode, Loaded, Store};
pub use supply::SiteIssued;
pub use watch::Watch;
