//! The certificate path's impure half: watches and loads files, checks and selects credentials,
//! tries and publishes them. Also follows backends, issuer keys and the site server.
//!
//! A broken file or credential stops no listener or other site system. No knowledge of requests.

mod address;
mod backends;
mod blocklist;
mod cert_folder;
mod choose;
mod clients;
mod fetch;
mod judged_credential;
mod key_cache;
mod keys;
pub mod machine;
mod provider;
mod remote_keys;
mod report;
mod rotation;
mod schedule;
mod served;
pub mod site_server;
mod source;
mod watch;
mod whole_file;

pub use backends::{BackendSeen, Backends};
pub use blocklist::{BlocklistFile, OnBlocklist};
pub use cert_folder::{Candidate, CertFolder, Folder, KeyMode, LoadedFolder, PFX_MAX, pfx_names};
pub use clients::{ClientFiles, ClientFilesState, OnClientFiles};
pub use fetch::{FetchError, FetchFault, Web};
pub use keys::{IssuerKeys, OnKeys};
pub use provider::Provider;
pub use remote_keys::{Fetched, OnFetch, RemoteKeys, RemoteParams, RemoteView};
pub use report::{Observer, Warning};
pub use rotation::{Nudge, Rotation, RotationParams};
pub use served::Served;
pub use source::SiteIssued;
pub use watch::{Renames, Watch};
pub use whole_file::{FileState, WholeFile, settle};
