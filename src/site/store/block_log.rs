//! The log of changed blocks: each transaction notes the ids that it may concern, so that readers
//! look up these and not all blocks.

use super::StoreError;
use super::db::Tx;

/// The largest number of ids that one change logs, and that a reader looks up. A larger change makes
/// readers read all blocks.
pub(super) const LOGGED_MAX: usize = 5_000;

/// How many changes are logged. A reader that is further behind reads all blocks.
pub(super) const CHANGES_KEPT: i64 = 20_000;

/// The kind that stands in the log for a change of anything else that a bundle says.
pub(super) const OTHER: &str = "other";

/// The kind of a block, as in the tables.
pub(super) fn kind_of(kind: &str) -> Result<&'static str, StoreError> {
    let kinds = ["token", "device", "user", "issued-before"];
    let found = kinds.into_iter().find(|known| *known == kind);
    found.ok_or_else(|| StoreError::Content(format!("block of kind '{kind}'")))
}

/// Logs what a change may concern. Returns whether the log has all of it.
pub(super) async fn log(tx: &mut Tx, version: i64) -> Result<bool, StoreError> {
    let mut touched = tx.take_touched();
    if touched.is_empty() {
        touched.insert((OTHER, String::new(), String::new()));
    }
    let is_logged = touched.len() <= LOGGED_MAX;
    let sql = "INSERT INTO block_changes (version, kind, issuer, name) VALUES ($1, $2, $3, $4)";
    for (kind, issuer, name) in touched.iter().filter(|_| is_logged) {
        tx.run(sql, &[version.into(), (*kind).into(), issuer.into(), name.into()]).await?;
    }
    let sql = "DELETE FROM block_changes WHERE version < $1";
    tx.run(sql, &[(version - CHANGES_KEPT).into()]).await?;
    Ok(is_logged)
}

/// Notes that a block of this kind, issuer and name may change, with all ids of the devices that it
/// blocks. For a block that is about to be lifted this comes before, for a new one after.
pub(super) async fn touch(
    tx: &mut Tx,
    kind: &'static str,
    issuer: &str,
    name: &str,
) -> Result<(), StoreError> {
    tx.touch((kind, issuer.to_owned(), name.to_owned()));
    if kind != "device" {
        return Ok(());
    }
    for device in devices_named(tx, name).await? {
        touch_device(tx, &device).await?;
    }
    Ok(())
}

/// The recorded devices that a block of this name blocks, sorted: as in the view `blocked_devices`,
/// which would read all blocks.
pub(super) async fn devices_named(tx: &mut Tx, name: &str) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT id FROM devices WHERE name = $1 \
               UNION SELECT id FROM devices WHERE entra = $1 AND approved \
               UNION SELECT device FROM device_keys WHERE thumbprint = $1 AND active \
               UNION SELECT c.device FROM device_certificates c \
               JOIN devices d ON d.id = c.device WHERE c.thumbprint = $1 AND d.approved \
               ORDER BY 1";
    tx.rows(sql, &[name.into()]).await?.iter().map(|row| row.get(0)).collect()
}

/// Notes that all ids of a device may become blocked, or not blocked.
pub(super) async fn touch_device(tx: &mut Tx, device: &str) -> Result<(), StoreError> {
    let sql = "SELECT name FROM devices WHERE id = $1 \
               UNION SELECT entra FROM devices WHERE id = $1 AND entra IS NOT NULL \
               UNION SELECT thumbprint FROM device_keys WHERE device = $1 AND active \
               UNION SELECT thumbprint FROM device_certificates WHERE device = $1";
    for row in tx.rows(sql, &[device.into()]).await? {
        tx.touch(("device", String::new(), row.get(0)?));
    }
    Ok(())
}
