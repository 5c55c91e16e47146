//! Linux, and other Unix systems as far as they are alike.

mod files;
mod machine;
mod process;
mod socket;

pub use files::{
    FileIdentity, FileOwner, FileStamp, exposure, give, has_other_names, identity, make_private,
    open_for, open_without_waiting, owner, private_dir, read_exact_at, restrict, stamp,
    sync_folder, temporary_for, unwritable,
};
pub use machine::{
    descriptors, holders, own_descriptors, raise_descriptors, space, unwatchable, watch_limits,
};
pub use process::{
    Signals, current_user, end_requested, exists, hide_memory, is_journal, notify_ready,
    notify_stopping,
};
pub use socket::{
    AsSocket, LocalStream, connect_local, is_exhausted, is_out_of_watches, set_low_water,
};
