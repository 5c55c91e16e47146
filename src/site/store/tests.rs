//! What only the inside can show: a disk that is full. The rules are played in tests/scenarios/store.

use jiff::Timestamp;

use super::db::Pools;
use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

async fn pragma(store: &Store, sql: &'static str) {
    let pools = store.db.pools();
    let Pools::Sqlite { write, .. } = &*pools else { panic!() };
    sqlx::query(sql).execute(write).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_error_until_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(dir.path().join("store/site.db"));
    let store = Store::open(&place, now()).await.unwrap();
    let (detail, mut written) = ("x".repeat(8000), 0);
    for _ in 0..3 {
        // SQLite does the same for a limit that is reached as for a disk that is full. The limit is
        // the connection's, which is not used again: so there is room afterwards.
        pragma(&store, "PRAGMA max_page_count = 1").await;
        let refused = loop {
            match store.record(Action::Opened, "s", &detail, "a", now()).await {
                Ok(()) => written += 1,
                Err(refused) => break refused,
            }
            assert!(written < 1000, "it never fills");
        };
        assert!(matches!(refused, StoreError::Full), "{refused:?}");
        store.record(Action::Opened, "s", &detail, "a", now()).await.unwrap();
        written += 1;
        let lines = store.audit(AuditFilter::default(), 2000, None).await.unwrap();
        assert_eq!(lines.len(), written + 1, "what was refused left nothing");
    }
}

#[tokio::test]
async fn a_store_that_is_read_only_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(dir.path().join("store/site.db"));
    let store = Store::open(&place, now()).await.unwrap();
    pragma(&store, "PRAGMA query_only = ON").await;
    let refused = store.block(&Blocked::Device("k1"), None, "a", now()).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly)), "{refused:?}");
    assert!(store.blocks().await.unwrap().entries.is_empty());
    pragma(&store, "PRAGMA query_only = OFF").await;
    assert!(store.block(&Blocked::Device("k1"), None, "a", now()).await.unwrap());
}

#[tokio::test]
async fn a_transaction_that_is_dropped_has_not_happened_and_is_in_nobody_s_way() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(dir.path().join("store/site.db"));
    let store = Store::open(&place, now()).await.unwrap();
    let mut tx = store.db.begin().await.unwrap();
    audit::write(&mut tx, Action::Opened, "dropped", "", "a", now()).await.unwrap();
    drop(tx);
    store.record(Action::Opened, "kept", "", "a", now()).await.unwrap();
    let filter = AuditFilter { subject: Some("dropped"), ..Default::default() };
    assert_eq!(store.audit(filter, 9, None).await.unwrap(), []);
}
