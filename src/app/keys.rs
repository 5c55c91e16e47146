//! Shared site keys: several site servers with one store take their keys from it before they use
//! any.

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

/// Takes over the keys of the site's other servers, if they share any. Creates no keys if the
/// configuration expects a root that is missing.
///
/// # Errors
/// If the seal cannot be read or does not match: separate keys would make this a second site. An
/// unreachable store is not an error if the keys were already here.
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
                "the site's store cannot be used; using the local copy of the site's keys");
            Ok(None)
        }
        // The local keys are newer than those in a restored copy of the store: they stay in use.
        Err(error @ SharedKeysError::Older(..)) if were_here => {
            tracing::error!(path = %path.display(), "{error}");
            Ok(None)
        }
        Err(error) => Err(told(error)),
    }
}
