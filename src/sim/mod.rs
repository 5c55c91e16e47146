//! Simulated site systems and clients, for demonstrations, tests and benches: a backend that answers
//! as a management point or distribution point would, a client, and a load of many clients.
//!
//! Judges nothing and knows nothing of the gateway: it speaks HTTP and TLS to whatever is there.

pub mod backend;
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

pub use backend::{Backend, Seen, Setup};
pub use client::{Answer, Client, ClientError, Presented, Request, Trust};
pub use content::Content;
pub use device::{Device, DeviceError, exchange};
pub use load::{Counts, Load, Plan};
pub use reach::Reach;
