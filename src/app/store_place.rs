//! The location of the site's store, as configured.

use std::path::PathBuf;

use super::StartError;
use crate::config::{Config, TokenServiceStore};
use crate::secret::Password;
use crate::site::store::{PostgresUrl, StorePlace};

/// The location of the store, its name in errors, and whether it exists.
pub(crate) fn store_place(config: &Config) -> Result<(StorePlace, PathBuf, bool), StartError> {
    match &config.token_service.store {
        TokenServiceStore::Embedded => {
            let path = config.site.state.join("store").join("site.db");
            // A path that may not be examined counts as existing.
            let is_there = path.try_exists().unwrap_or(true);
            Ok((StorePlace::Sqlite(path.clone()), path, is_there))
        }
        TokenServiceStore::Postgres(source) => {
            let shown = PathBuf::from("token_service.store");
            let failed = |cause| StartError::File { path: shown.clone(), cause };
            let (url, _) = Password::read(source).map_err(failed)?;
            let url = PostgresUrl::parse(url.reveal().trim())
                .map_err(|cause| failed(std::io::Error::other(cause.to_string())))?;
            Ok((StorePlace::Postgres(url), shown.clone(), true))
        }
    }
}
