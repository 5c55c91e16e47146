//! The bundle in force with its deltas, and the site's encrypted keys, which several site servers
//! share.
//!
//! One server at a time publishes a version. Keys are encrypted before they get here.

use jiff::Timestamp;

use super::audit::{self, Action};
use super::db::{DbRow, Tx};
use super::{Store, StoreError, history, seconds};

/// The bundle in force, and the deltas of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBundle {
    /// The version of the whole bundle.
    pub version: u64,
    /// The whole bundle.
    pub text: String,
    /// The deltas, in order: those that follow it, and some of before for gateways that lag behind.
    pub deltas: Vec<StoredDelta>,
    /// The state of the blocks that the last document includes.
    pub blocks: i64,
}

/// A stored delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelta {
    /// The version that it leads to.
    pub version: u64,
    /// The document.
    pub text: String,
    /// The state of the blocks that it includes.
    pub blocks: i64,
}

impl StoredBundle {
    /// The version in force.
    pub fn head(&self) -> u64 {
        self.deltas.last().map_or(0, |delta| delta.version).max(self.version)
    }

    /// The bundle and the deltas that follow it, a document in each line.
    pub fn lines(&self) -> String {
        let mut lines = self.text.trim_end().to_owned();
        for delta in self.deltas.iter().filter(|delta| delta.version > self.version) {
            lines.push('\n');
            lines.push_str(&delta.text);
        }
        lines
    }
}

/// A new document of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewDocument {
    /// A whole bundle.
    Bundle(String),
    /// What has changed since the version in force.
    Delta(String),
}

/// The version in force; 0 for none.
const HEAD: &str = "SELECT COALESCE(MAX(version), 0) FROM (SELECT MAX(version) AS version \
                    FROM bundles UNION ALL SELECT MAX(version) FROM bundle_deltas) documents";

impl Store {
    /// The bundle in force and its deltas, if there is one.
    ///
    /// # Errors
    /// The database's error.
    pub async fn bundle(&self) -> Result<Option<StoredBundle>, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let sql = "SELECT version, text, blocks FROM bundles ORDER BY version DESC LIMIT 1";
        let Some(row) = tx.row(sql, &[]).await? else { return Ok(None) };
        let (version, text) = (unsigned(row.get(0)?), row.get(1)?);
        let deltas = deltas(&tx.rows(DELTAS, &[0.into()]).await?)?;
        let last = deltas.last().filter(|delta: &&StoredDelta| delta.version > version);
        let blocks = match last {
            Some(last) => last.blocks,
            None => row.get(2)?,
        };
        Ok(Some(StoredBundle { version, text, deltas, blocks }))
    }

    /// The deltas after a version, in order.
    ///
    /// # Errors
    /// The database's error.
    pub async fn bundle_deltas(&self, after: u64) -> Result<Vec<StoredDelta>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        deltas(&self.db.rows(DELTAS, &[after.into()]).await?)
    }

    /// The version of the whole bundle; 0 for none.
    ///
    /// # Errors
    /// The database's error.
    pub async fn whole_bundle_version(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COALESCE(MAX(version), 0) FROM bundles";
        let rows = self.db.rows(sql, &[]).await?;
        rows.first().map_or(Ok(0), |row| row.get(0).map(unsigned))
    }

    /// The version of the bundle in force; 0 for none.
    ///
    /// # Errors
    /// The database's error.
    pub async fn bundle_version(&self) -> Result<u64, StoreError> {
        let rows = self.db.rows(HEAD, &[]).await?;
        rows.first().map_or(Ok(0), |row| row.get(0).map(unsigned))
    }

    /// The version of the bundle in force, if it includes the blocks of this state or a later one.
    ///
    /// # Errors
    /// The database's error.
    pub async fn bundle_of(&self, blocks: i64) -> Result<Option<u64>, StoreError> {
        let rows = self.db.rows(HEAD, &[]).await?;
        let version: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
        let sql = "SELECT blocks FROM bundles WHERE version = $1 \
                   UNION ALL SELECT blocks FROM bundle_deltas WHERE version = $1";
        let rows = self.db.rows(sql, &[version.into()]).await?;
        let included = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<i64>, _>>()?;
        let is_included = included.into_iter().any(|included| included >= blocks);
        Ok(is_included.then(|| unsigned(version)))
    }

    /// Publishes the next document, if the version in force is still `after` (0 for none). `blocks`
    /// is the state of the blocks that it includes. `make` gets the new version. Returns that, or
    /// `None` if another server has published in between. Runs on one server at a time.
    ///
    /// # Errors
    /// The database's error; the documents of before stay in force.
    pub async fn publish<E: From<StoreError>>(
        &self,
        after: u64,
        blocks: i64,
        make: impl FnOnce(u64) -> Result<NewDocument, E>,
        now: Timestamp,
    ) -> Result<Option<(u64, NewDocument)>, E> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut [LOCK]).await?;
        if head(&mut tx).await? != after {
            return Ok(None);
        }
        // A clock that was set back or a restored copy must not reuse an old version, which
        // gateways would refuse as outdated. The time gives a version that no copy has used.
        let number = history::next_bundle(&mut tx, now).await?;
        let version = unsigned(number);
        let made = make(version)?;
        match &made {
            NewDocument::Bundle(text) => {
                tx.run("DELETE FROM bundles", &[]).await?;
                let sql =
                    "INSERT INTO bundles (version, text, issued, blocks) VALUES ($1, $2, $3, $4)";
                let args = [number.into(), text.into(), seconds(now).into(), blocks.into()];
                tx.run(sql, &args).await?;
            }
            NewDocument::Delta(text) => {
                let sql = "INSERT INTO bundle_deltas (version, text, blocks) VALUES ($1, $2, $3)";
                tx.run(sql, &[number.into(), text.into(), blocks.into()]).await?;
            }
        }
        history::published(&mut tx, number).await?;
        // The blocks are the same: other servers that follow them need not read them again.
        tx.commit().await?;
        Ok(Some((version, made)))
    }

    /// Records that the version in force includes a state of the blocks, because it says the same.
    ///
    /// # Errors
    /// The database's error.
    pub async fn bundle_includes(&self, version: u64, blocks: i64) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        for sql in [
            "UPDATE bundles SET blocks = $2 WHERE version = $1 AND blocks < $2",
            "UPDATE bundle_deltas SET blocks = $2 WHERE version = $1 AND blocks < $2",
        ] {
            tx.run(sql, &[version.into(), blocks.into()]).await?;
        }
        tx.commit().await
    }

    /// Replaces the whole bundle by one that includes the deltas up to `version`, and removes deltas
    /// that are too old to be asked for.
    ///
    /// # Errors
    /// The database's error; the bundle of before is then kept.
    pub async fn replace_bundle(
        &self,
        version: u64,
        text: &str,
        blocks: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.lock_names(&mut [LOCK]).await?;
        let number = i64::try_from(version).unwrap_or(i64::MAX);
        let sql = "SELECT 1 FROM bundles WHERE version >= $1";
        if tx.any(sql, &[number.into()]).await? {
            // Another server was faster.
            return Ok(());
        }
        tx.run("DELETE FROM bundles", &[]).await?;
        let sql = "INSERT INTO bundles (version, text, issued, blocks) VALUES ($1, $2, $3, $4)";
        let args = [number.into(), text.into(), seconds(now).into(), blocks.into()];
        tx.run(sql, &args).await?;
        let sql = "DELETE FROM bundle_deltas WHERE version < (SELECT MIN(version) FROM \
                   (SELECT version FROM bundle_deltas ORDER BY version DESC LIMIT $1) kept)";
        tx.run(sql, &[DELTAS_KEPT.into()]).await?;
        tx.commit().await
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

/// The name of the lock that the publishing server has.
const LOCK: &str = "the bundle";

/// How many deltas are kept: gateways that are further behind get the whole bundle.
const DELTAS_KEPT: i64 = 4_000;

const DELTAS: &str =
    "SELECT version, text, blocks FROM bundle_deltas WHERE version > $1 ORDER BY version";

async fn head(tx: &mut Tx) -> Result<u64, StoreError> {
    tx.row(HEAD, &[]).await?.map_or(Ok(0), |row| row.get(0).map(unsigned))
}

fn deltas(rows: &[DbRow]) -> Result<Vec<StoredDelta>, StoreError> {
    let read = |row: &DbRow| {
        Ok(StoredDelta { version: unsigned(row.get(0)?), text: row.get(1)?, blocks: row.get(2)? })
    };
    rows.iter().map(read).collect()
}

fn unsigned(version: i64) -> u64 {
    u64::try_from(version).unwrap_or_default()
}
