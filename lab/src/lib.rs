//! Simulated site systems and clients, for demonstrations, tests and benches: a backend that
//! responds as a management point or distribution point would, a client, and a load of many clients.
//!
//! Makes no decisions. Only `cli` starts a gateway; all other modules speak HTTP and TLS to any server.

pub mod backend;
pub mod cli;
pub mod client;
pub mod content;
pub mod device;
pub mod fleet;
pub mod latency;
pub mod load;
pub mod messages;
pub mod ntlm;
mod pages;
mod presented;
pub mod reach;
mod serving;
pub mod walk;
pub mod windows;

pub use backend::{SeenRequest, Setup, SimulatedBackend};
pub use client::{ClientError, ServedChain, SimAnswer, SimClient, SimRequest, Trust};
pub use content::Content;
pub use device::{DeviceError, SimDevice, exchange};
pub use load::{Counts, Load, LoadPlan};
pub use reach::Reach;
