//! The bundle in force, and the site's encrypted keys, which several site servers share.
//!
//! One server at a time publishes a version. Keys are encrypted before they get here.

use jiff::Timestamp;

use super::audit::{self, Action};
use super::{Store, StoreError, history, seconds};

/// The bundle in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedBundle {
    /// Its version.
    pub version: u64,
    /// The document.
    pub text: String,
}

impl Store {
    /// The bundle in force, if there is one.
    ///
    /// # Errors
    /// The database's error.
    pub async fn bundle(&self) -> Result<Option<PublishedBundle>, StoreError> {
        let sql = "SELECT version, text FROM bundles ORDER BY version DESC LIMIT 1";
        let rows = self.db.rows(sql, &[]).await?;
        rows.first().map(|row| Ok(published(row.get(0)?, row.get(1)?))).transpose()
    }

    /// The version of the bundle in force; 0 for none.
    ///
    /// # Errors
    /// The database's error.
    pub async fn bundle_version(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COALESCE(MAX(version), 0) FROM bundles";
        let rows = self.db.rows(sql, &[]).await?;
        let version: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
        Ok(u64::try_from(version).unwrap_or_default())
    }

    /// The version of the bundle in force, if it includes the blocks of this state or a later one.
    ///
    /// # Errors
    /// The database's error.
    pub async fn bundle_of(&self, blocks: i64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT MAX(version) FROM bundles WHERE blocks >= $1";
        let rows = self.db.rows(sql, &[blocks.into()]).await?;
        let version: Option<i64> = rows.first().map_or(Ok(None), |row| row.get(0))?;
        Ok(version.and_then(|version| u64::try_from(version).ok()))
    }

    /// Publishes the next bundle, if one is due. `blocks` is the state of the blocks in it. `make`
    /// gets the bundle in force and the new version; it returns the new bundle, or `None` if none
    /// is due. Runs on one server at a time. Returns the bundle then in force.
    ///
    /// # Errors
    /// The database's error; the former bundle stays in force.
    pub async fn publish<E: From<StoreError>>(
        &self,
        make: impl FnOnce(Option<&PublishedBundle>, u64) -> Result<Option<String>, E>,
        blocks: i64,
        now: Timestamp,
    ) -> Result<Option<PublishedBundle>, E> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut ["the bundle"]).await?;
        let sql = "SELECT version, text FROM bundles ORDER BY version DESC LIMIT 1";
        let row = tx.row(sql, &[]).await?;
        let current = match row {
            Some(row) => Some(published(row.get(0)?, row.get(1)?)),
            None => None,
        };
        // A clock that was set back or a restored copy must not reuse an old version, which
        // gateways would refuse as outdated. The time gives a version that no copy has used.
        let number = history::next_bundle(&mut tx, now).await?;
        let version = u64::try_from(number).unwrap_or_default();
        let Some(text) = make(current.as_ref(), version)? else {
            // It has the same content as a new one.
            let sql = "UPDATE bundles SET blocks = $1 WHERE blocks < $1";
            tx.run(sql, &[blocks.into()]).await?;
            tx.commit().await?;
            return Ok(current);
        };
        tx.run("DELETE FROM bundles", &[]).await?;
        let sql = "INSERT INTO bundles (version, text, issued, blocks) VALUES ($1, $2, $3, $4)";
        let args = [number.into(), (&text).into(), seconds(now).into(), blocks.into()];
        tx.run(sql, &args).await?;
        history::published(&mut tx, number).await?;
        // The blocks are the same: other servers that follow them need not read them again.
        tx.commit().await?;
        Ok(Some(PublishedBundle { version, text }))
    }

    /// Announces a server of the site.
    ///
    /// # Errors
    /// The database's error.
    pub async fn announce(
        &self,
        servers: &[String],
        origins: &[String],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let sql = "INSERT INTO site_servers (servers, origins, seen) VALUES ($1, $2, $3) \
                   ON CONFLICT (servers) DO UPDATE SET \
                   origins = excluded.origins, seen = excluded.seen";
        let (servers, origins) = (servers.join(" "), origins.join(" "));
        tx.run(sql, &[(&servers).into(), (&origins).into(), seconds(now).into()]).await?;
        tx.commit().await
    }

    /// The servers announced since `since`, in seconds, and the origins of their site systems; both
    /// sorted.
    ///
    /// # Errors
    /// The database's error.
    pub async fn announced(&self, since: i64) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let sql = "SELECT servers, origins FROM site_servers WHERE seen >= $1 ORDER BY servers";
        let (mut servers, mut origins) = (Vec::new(), Vec::new());
        for row in self.db.rows(sql, &[since.into()]).await? {
            let texts: (String, String) = (row.get(0)?, row.get(1)?);
            servers.extend(texts.0.split_whitespace().map(str::to_owned));
            origins.extend(texts.1.split_whitespace().map(str::to_owned));
        }
        origins.sort_unstable();
        Ok((servers, origins))
    }

    /// The site's keys, encrypted, and their version.
    ///
    /// # Errors
    /// The database's error.
    pub async fn site_keys(&self) -> Result<Option<(i64, String)>, StoreError> {
        let rows = self.db.rows("SELECT version, sealed FROM site_keys WHERE id = 1", &[]).await?;
        rows.first().map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    }

    /// Replaces the site's keys, if their version is still the one that was read (0 for none).
    /// `false` if another server wrote first: the caller must read them again.
    ///
    /// # Errors
    /// The database's error.
    pub async fn keep_site_keys(
        &self,
        read: i64,
        sealed: &str,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut ["the site's keys"]).await?;
        let sql = "SELECT version FROM site_keys WHERE id = 1";
        let found = tx.row(sql, &[]).await?;
        let version: i64 = found.map_or(Ok(0), |row| row.get(0))?;
        if version != read {
            return Ok(false);
        }
        tx.run("DELETE FROM site_keys", &[]).await?;
        let sql = "INSERT INTO site_keys (id, version, sealed) VALUES (1, $1, $2)";
        tx.run(sql, &[(version + 1).into(), sealed.into()]).await?;
        let detail = format!("version {}", version + 1);
        audit::write(&mut tx, Action::KeysChanged, "the site's keys", &detail, actor, now).await?;
        self.commit_and_tell(tx).await?;
        Ok(true)
    }
}

fn published(version: i64, text: String) -> PublishedBundle {
    PublishedBundle { version: u64::try_from(version).unwrap_or_default(), text }
}
