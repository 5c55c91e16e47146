//! The bundle in force, and the site's own keys: what several site servers have in common.
//!
//! One of them at a time makes a version. Keys come here sealed and leave sealed.

use jiff::Timestamp;

use super::audit::{self, Action};
use super::{Store, StoreError, recover, seconds};

/// The bundle in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its version.
    pub version: u64,
    /// The document.
    pub text: String,
}

impl Store {
    /// The bundle in force, if there is one.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn bundle(&self) -> Result<Option<Published>, StoreError> {
        let sql = "SELECT version, text FROM bundles ORDER BY version DESC LIMIT 1";
        let rows = self.db.rows(sql, &[]).await?;
        rows.first().map(|row| Ok(published(row.get(0)?, row.get(1)?))).transpose()
    }

    /// The version of the bundle in force; 0 for none.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn bundle_version(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COALESCE(MAX(version), 0) FROM bundles";
        let rows = self.db.rows(sql, &[]).await?;
        let version: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
        Ok(u64::try_from(version).unwrap_or_default())
    }

    /// The version of the bundle in force, if it says the blocks as they are in this state, or in a
    /// later one.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn bundle_of(&self, blocks: i64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT MAX(version) FROM bundles WHERE blocks >= $1";
        let rows = self.db.rows(sql, &[blocks.into()]).await?;
        let version: Option<i64> = rows.first().map_or(Ok(None), |row| row.get(0))?;
        Ok(version.and_then(|version| u64::try_from(version).ok()))
    }

    /// Make the next bundle, if one is due. `blocks` is the state of the blocks that it says. `make` is told the one in force, and says the next one
    /// with the version that it is given, or that nothing is due. No other server makes one at the
    /// same time. Says the bundle in force afterwards.
    ///
    /// # Errors
    /// What the database answers; the one before stays in force.
    pub async fn publish<E: From<StoreError>>(
        &self,
        make: impl FnOnce(Option<&Published>, u64) -> Result<Option<String>, E>,
        blocks: i64,
        now: Timestamp,
    ) -> Result<Option<Published>, E> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut ["the bundle"]).await?;
        let sql = "SELECT version, text FROM bundles ORDER BY version DESC LIMIT 1";
        let row = tx.row(sql, &[]).await?;
        let current = match row {
            Some(row) => Some(published(row.get(0)?, row.get(1)?)),
            None => None,
        };
        // A clock or a copy that was set back must not bring an old number again; gateways would
        // take what comes under it for the past. The time gives a number that no copy has had.
        let number = recover::next_bundle(&mut tx, now).await?;
        let version = u64::try_from(number).unwrap_or_default();
        let Some(text) = make(current.as_ref(), version)? else {
            // It says the same as a new one would.
            let sql = "UPDATE bundles SET blocks = $1 WHERE blocks < $1";
            tx.run(sql, &[blocks.into()]).await?;
            tx.commit().await?;
            return Ok(current);
        };
        tx.run("DELETE FROM bundles", &[]).await?;
        let sql = "INSERT INTO bundles (version, text, issued, blocks) VALUES ($1, $2, $3, $4)";
        let args = [number.into(), (&text).into(), seconds(now).into(), blocks.into()];
        tx.run(sql, &args).await?;
        recover::published(&mut tx, number).await?;
        self.commit_and_tell(tx).await?;
        Ok(Some(Published { version, text }))
    }

    /// Say that a server of the site is there.
    ///
    /// # Errors
    /// What the database answers.
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

    /// The servers that said so since then, in seconds, and the addresses of the site systems
    /// beside them; both in order.
    ///
    /// # Errors
    /// What the database answers.
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

    /// The site's keys as they are kept here, sealed, with their version.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn site_keys(&self) -> Result<Option<(i64, String)>, StoreError> {
        let rows = self.db.rows("SELECT version, sealed FROM site_keys WHERE id = 1", &[]).await?;
        rows.first().map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    }

    /// Replace the site's keys, if they are still of the version that was read (0 where there were
    /// none). `false` if another server was first: then they have to be read again.
    ///
    /// # Errors
    /// What the database answers.
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

fn published(version: i64, text: String) -> Published {
    Published { version: u64::try_from(version).unwrap_or_default(), text }
}
