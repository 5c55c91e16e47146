//! The site's store, opened for one command.
//!
//! What is written takes hold at every running process that follows the store; none is spoken to.

use std::future::Future;
use std::path::Path;

use anyhow::{anyhow, bail};
use jiff::Timestamp;

use crate::app::store_place;
use crate::clock::Clock;
use crate::config::Config;
use crate::os::{self, FileOwner};
use crate::site::store::{Store, StorePlace};

/// As [`with`]; there must be a store.
pub(super) fn with_present<T, F>(
    config: &Config,
    act: impl FnOnce(Store, Timestamp) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    super::is_own(config)?;
    let (_, path, is_there) = store_place(config)?;
    if !is_there {
        bail!("there is no store at {} yet; the first start makes it", path.display());
    }
    with(config, act)
}

/// Do something with the store of a configuration, and let go of it. A store that is not there is
/// made.
///
/// # Errors
/// The store cannot be opened, or `act` fails.
pub fn with<T, F>(config: &Config, act: impl FnOnce(Store, Timestamp) -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    super::is_own(config)?;
    let (place, path, _) = store_place(config)?;
    if let StorePlace::Sqlite(path) = &place {
        is_ours(path)?;
    }
    let now = Clock::system().now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open_briefly(&place).await;
        let store =
            store.map_err(|error| anyhow!("the store {}: {}", path.display(), error.advice()));
        let store = store?;
        let done = act(store.clone(), now).await;
        store.close().await;
        done
    })
}

/// Whoever acts, for the audit: the person behind sudo, if there is one.
pub(super) fn actor() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let plain = |name: &String| {
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic())
    };
    match named.filter(plain) {
        Some(name) => format!("command line, {name}"),
        None => "command line".to_owned(),
    }
}

/// A file that another user makes beside the database would lock the service out of it.
pub(super) fn is_ours(path: &Path) -> anyhow::Result<()> {
    // The file, its folder, or the state directory: whichever is there already.
    let found = path.ancestors().take(3).find_map(|place| os::owner(place).ok());
    let Some(user) = found.map(FileOwner::user) else { return Ok(()) };
    let own = os::current_user();
    if user != own {
        bail!(
            "{} belongs to user {user}, and this is user {own}; run the command as that user, as \
             in 'sudo -u sitegate sitegate …'",
            path.display()
        );
    }
    Ok(())
}
