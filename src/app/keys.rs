//! The site's keys where several site servers share a store: taken from there before anything is
//! made with them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::StartError;
use super::assemble::open_tokens;
use super::authority::{look_for_expected_roots, open_authority};
use super::store_place::store_place;
use crate::clock::Clock;
use crate::config::{Config, TokenServiceStore};
use crate::secret::Password;
use crate::site::store::Store;
use crate::site::{Seal, SharedKeys, SharedKeysError, bundle_keys};

/// Have the keys of the site's other servers, if they share any. Nothing is made where the
/// configuration expects a root that is not there.
///
/// # Errors
/// If the seal cannot be read or is not theirs: keys of one's own would be a second site's. A store
/// that does not answer is none where the keys were here before.
pub(crate) async fn share(
    config: &Config,
    provider: &Arc<CryptoProvider>,
    clock: &Clock,
) -> Result<Option<SharedKeys>, StartError> {
    let (Some(source), TokenServiceStore::Postgres(_)) =
        (&config.site.seal, &config.token_service.store)
    else {
        look_for_expected_roots(config, provider)?;
        return Ok(None);
    };
    let shown = std::path::PathBuf::from("site.seal");
    let failed = |cause| StartError::File { path: shown.clone(), cause };
    let told = |error: SharedKeysError| failed(std::io::Error::other(error.to_string()));
    let (secret, _) = Password::read(source).map_err(failed)?;
    let seal = Seal::new(&secret).map_err(told)?;
    let (place, path, _) = store_place(config)?;
    let make = || {
        let now = clock.now();
        open_tokens(config, now).map_err(|error| error.to_string())?;
        if let Some(authority) = open_authority(config, provider.clone()) {
            authority.prepare(now).map_err(|fault| fault.to_string())?;
        }
        bundle_keys(&config.site.state, now).map(drop).map_err(|error| error.to_string())
    };
    let shared = match Store::open_at_start(&place).await {
        Ok(store) => {
            let shared = SharedKeys::start(&config.site.state, seal, &store, clock, make).await;
            store.close().await;
            shared
        }
        Err(error) => Err(SharedKeysError::Store(error)),
    };
    look_for_expected_roots(config, provider)?;
    let were_here = config.site.state.join("token").join("token.key").exists();
    match shared {
        Ok(shared) => Ok(Some(shared)),
        Err(SharedKeysError::Store(error)) if were_here => {
            tracing::error!(path = %path.display(), error = error.advice(),
                "the site's store cannot be used; the site's keys are those that are here");
            Ok(None)
        }
        // What is here is newer: it serves, and nobody loses a key by a restored copy.
        Err(error @ SharedKeysError::Older(..)) if were_here => {
            tracing::error!(path = %path.display(), "{error}");
            Ok(None)
        }
        Err(error) => Err(told(error)),
    }
}
