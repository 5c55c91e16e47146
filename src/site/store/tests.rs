//! Unit tests of internals: a full disk, a store of an earlier version. The rules are tested in
//! tests/scenarios/store.

use std::path::Path;

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
    let place = StorePlace::Sqlite(dir.path().join("store/site.db"));
    let store = Store::open(&place, now()).await.unwrap();
    let (detail, mut written) = ("x".repeat(8000), 0);
    for _ in 0..3 {
        // SQLite treats a reached limit like a full disk. The limit applies to the connection,
        // which is not used again, so there is room afterwards.
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
    let place = StorePlace::Sqlite(dir.path().join("store/site.db"));
    let store = Store::open(&place, now()).await.unwrap();
    pragma(&store, "PRAGMA query_only = ON").await;
    let refused = store.block(&Blocked::Device("k1"), None, "a", now()).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly)), "{refused:?}");
    assert!(store.blocks().await.unwrap().entries.is_empty());
    pragma(&store, "PRAGMA query_only = OFF").await;
    assert!(store.block(&Blocked::Device("k1"), None, "a", now()).await.unwrap());
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let dir = tempfile::tempdir().unwrap();
    let place = StorePlace::Sqlite(dir.path().join("store/site.db"));
    let store = Store::open(&place, now()).await.unwrap();
    let mut tx = store.db.begin().await.unwrap();
    audit::write(&mut tx, Action::Opened, "dropped", "", "a", now()).await.unwrap();
    drop(tx);
    store.record(Action::Opened, "kept", "", "a", now()).await.unwrap();
    let filter = AuditFilter { subject: Some("dropped"), ..Default::default() };
    assert_eq!(store.audit(filter, 9, None).await.unwrap(), []);
}

/// A store of the version before keys had an origin: GUID:A has the active key a1 and a2 waits,
/// GUID:B waits with both of its keys.
async fn older(dir: &Path, more: &str) -> Store {
    let (steps, file) = (dir.join("steps"), dir.join("store/site.db"));
    std::fs::create_dir_all(&steps).unwrap();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    for step in ["0001_first.sql", "0002_gateways.sql"] {
        let from = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/");
        std::fs::copy([from, step].concat(), steps.join(step)).unwrap();
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let old = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::migrate::Migrator::new(steps).await.unwrap().run(&old).await.unwrap();
    let rows = "INSERT INTO devices (id, name, entra, approved, via, registered) VALUES \
                ('GUID:A', 'a', NULL, 1, 'entra', 1), ('GUID:B', 'b', 'e', 0, 'entra', 1);
                INSERT INTO device_keys (thumbprint, device, jwk, added, place, active) VALUES \
                ('a1', 'GUID:A', '{}', 1, 1, 1), ('a2', 'GUID:A', '{}', 1, 2, 0), \
                ('b1', 'GUID:B', '{}', 1, 1, 1), ('b2', 'GUID:B', '{}', 1, 2, 0);";
    let rows = sqlx::AssertSqlSafe([rows, more].concat());
    sqlx::raw_sql(rows).execute(&old).await.unwrap();
    old.close().await;
    Store::open(&StorePlace::Sqlite(file), now()).await.unwrap()
}

fn named(key: &str) -> Approval<'_> {
    Approval { key, alone: false, keep: false }
}

#[tokio::test]
async fn keys_waiting_in_an_older_store_can_be_approved() {
    let dir = tempfile::tempdir().unwrap();
    let store = older(dir.path(), "").await;
    let waiting = async |id: &str| {
        let device = store.device(id).await.unwrap().unwrap();
        assert!(device.keys.iter().all(|key| key.origin.is_none()));
        device.waiting().map(|key| key.thumbprint.clone()).collect::<Vec<_>>()
    };
    assert_eq!(waiting("GUID:A").await, ["a2"]);
    assert_eq!(waiting("GUID:B").await, ["b1", "b2"]);
    let answer = store.approve("GUID:B", &named("b1"), "a", now()).await.unwrap();
    assert!(matches!(answer, Approved::Yes { .. }), "{answer:?}");
    assert_eq!(waiting("GUID:B").await, ["b2"]);
}

#[tokio::test]
async fn a_waiting_key_blocked_in_an_older_store_blocks_no_device() {
    let dir = tempfile::tempdir().unwrap();
    let block = "INSERT INTO blocks (kind, issuer, name, shown, at, actor) \
                 VALUES ('device', '', 'a2', 'a2', 1, 'a')";
    let store = older(dir.path(), block).await;
    let device = store.device("GUID:A").await.unwrap().unwrap();
    assert_eq!(device.blocked, None);
    assert_eq!(store.blocks().await.unwrap().entries[0].covers, []);
    let answer = store.approve("GUID:A", &named("a2"), "a", now()).await.unwrap();
    assert_eq!(answer, Approved::Blocked);
}

/// What may be scanned: the row of a `SELECT` without a table.
const SCANNED: &[&str] = &["CONSTANT"];

/// Runs what a client's request runs.
async fn serve_clients(store: &Store) {
    let registration = Registration {
        thumbprint: "k1",
        jwk: "{}",
        claimed: Some("GUID:C"),
        proven_by: Some("k0"),
        via: Via::Entra,
        token: Some(TokenRef { issuer: "i", id: "bulk", issued: None }),
        uses_max: Some(9),
        entra: Some("e"),
        certificate: Some("c"),
        fresh_id: "GUID:A",
        approve: true,
        accept_claims: true,
        address: None,
        client: None,
        returning: false,
        now: now(),
    };
    store.register(&registration, "a").await.unwrap();
    store.register(&registration, "a").await.unwrap();
    let proof = Proof { client: "x", jti: "j", until: now() };
    let grant = Grant {
        id: uuid::Uuid::from_u128(1),
        issuer: "i",
        purpose: crate::purpose::Purpose::Client,
        device: Some("GUID:C"),
        user: Some("u"),
        audience: "a",
        issued: now(),
        expires: now(),
        bound_to: None,
        scope: None,
        uses_max: Some(2),
        proof: Some(proof),
        subject_token: Some(TokenRef { issuer: "i", id: "s", issued: None }),
        renews: true,
    };
    store.grant(&grant, "a").await.unwrap();
    store.token(grant.id).await.unwrap();
    let of_device = TokenFilter { device: Some("GUID:C"), ..TokenFilter::default() };
    store.tokens(of_device, 1, None).await.unwrap();
    for found in [
        store.device("GUID:C").await,
        store.device_by_key("k1").await,
        store.device_by_entra("e").await,
    ] {
        assert!(found.unwrap().is_some());
    }
    store.block(&Blocked::Token { issuer: "i", id: "t" }, None, "a", now()).await.unwrap();
    store.gateway_by_identity("t", now()).await.unwrap();
    store.gateway_has("g", 1, now()).await.unwrap();
    store.remembers_bundle(1).await.unwrap();
    let of_device = AuditFilter { subject: Some("GUID:C"), ..AuditFilter::default() };
    store.audit(of_device, 9, None).await.unwrap();
}

#[tokio::test]
async fn the_statements_of_clients_use_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StorePlace::Sqlite(dir.path().join("site.db")), now()).await.unwrap();
    db::statements::take();
    serve_clients(&store).await;
    let statements = db::statements::take();
    assert!(statements.len() > 25, "{} statements", statements.len());
    let pools = store.db.pools();
    let Pools::Sqlite { read, .. } = &*pools else { panic!() };
    let mut scans = Vec::new();
    for sql in statements {
        let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        for row in sqlx::query(explained).fetch_all(read).await.unwrap() {
            let step: String = sqlx::Row::get(&row, "detail");
            let table = step.strip_prefix("SCAN ").map(|rest| rest.split(' ').next().unwrap());
            if table.is_some_and(|table| !SCANNED.contains(&table)) {
                scans.push(format!("{step}: {sql}"));
            }
        }
    }
    assert_eq!(scans, [""; 0]);
}
