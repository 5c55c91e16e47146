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
    follow_blocks(store).await;
    store.gateway_by_identity("t", now()).await.unwrap();
    store.gateways_have(&[("g".to_owned(), 1)].into(), now()).await.unwrap();
    store.remembers_bundle(1).await.unwrap();
    let of_device = AuditFilter { subject: Some("GUID:C"), ..AuditFilter::default() };
    store.audit(of_device, 9, None).await.unwrap();
}

/// Runs what each change of the blocks runs, at those who make it and at those who read it.
async fn follow_blocks(store: &Store) {
    let user = Blocked::User { issuer: None, id: "6f1d5c0e-7a57-4d0c-9b5e-1f8a2c3d4e5f" };
    let before = Blocked::IssuedBefore { issuer: "i", before: now() };
    for what in [Blocked::Device("GUID:C"), Blocked::Device("k1"), user, before] {
        let since = store.block_version().await.unwrap();
        assert!(store.block(&what, None, "a", now()).await.unwrap());
        let blocked = store.block_changes(since, None).await.unwrap().unwrap();
        assert!(!blocked.added.is_empty() && blocked.removed.is_empty());
        assert!(store.unblock(&what, "a", now()).await.unwrap());
        store.block_device("GUID:D", true, None, "a", now()).await.unwrap();
        store.unblock(&Blocked::Device("GUID:D"), "a", now()).await.unwrap();
        let lifted = store.block_changes(blocked.version, None).await.unwrap().unwrap();
        assert!(!lifted.removed.is_empty() && lifted.added.is_empty());
    }
    store.count_recovered().await.unwrap();
}

/// A block and a lifted block name what all blocks lead to.
#[tokio::test]
async fn changes_lead_to_all_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StorePlace::Sqlite(dir.path().join("site.db")), now()).await.unwrap();
    serve_clients(&store).await;
    // The device is blocked by its id and by its key, and the key is blocked itself.
    let device = [Blocked::Device("guid:c"), Blocked::Device("k1"), Blocked::Device("e")];
    let others = [
        Blocked::Token { issuer: "i", id: "t" },
        Blocked::User { issuer: Some("i"), id: "u" },
        Blocked::User { issuer: None, id: "u" },
        // One user in two spellings, which requests do not tell apart.
        Blocked::User { issuer: None, id: "6F1D5C0E-7A57-4D0C-9B5E-1F8A2C3D4E5F" },
        Blocked::User { issuer: None, id: "6f1d5c0e-7a57-4d0c-9b5e-1f8a2c3d4e5f" },
        Blocked::IssuedBefore { issuer: "i", before: now() },
    ];
    let all = [&device[..], &others].concat();
    let lifts = all.iter().map(|what| (what, false));
    let steps: Vec<_> = all.iter().map(|what| (what, true)).chain(lifts).collect();
    let mut held = store.current_blocks().await.unwrap();
    for (what, is_block) in steps {
        if is_block {
            store.block(what, None, "a", now()).await.unwrap();
        } else {
            assert!(store.unblock(what, "a", now()).await.unwrap(), "{what:?}");
        }
        let found = store.current_blocks().await.unwrap();
        if found.version == held.version {
            continue;
        }
        let changes = store.block_changes(held.version, Some(&held.mark)).await.unwrap().unwrap();
        let mut blocks = held.blocks;
        let changed = |block: &crate::token::Block| {
            [&changes.removed[..], &changes.added].concat().iter().any(|c| c.key() == block.key())
        };
        blocks.retain(|block| !changed(block));
        blocks.extend(changes.added.iter().cloned());
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks, found.blocks, "{what:?} {is_block}");
        held = found;
    }
    assert_eq!(held.blocks, []);
}

#[tokio::test]
async fn a_reader_of_another_copy_reads_all_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StorePlace::Sqlite(dir.path().join("site.db")), now()).await.unwrap();
    let block = async |id: &str| store.block(&Blocked::Device(id), None, "a", now()).await.unwrap();
    block("a").await;
    let held = store.current_blocks().await.unwrap();
    block("b").await;
    let version = store.block_version().await.unwrap();
    let changes = async |since, of| store.block_changes(since, of).await.unwrap();
    assert!(changes(held.version, Some(&*held.mark)).await.is_some());
    assert_eq!(changes(version, None).await.unwrap().added, []);
    assert_eq!(changes(held.version, Some("another")).await, None);
    assert_eq!(changes(version + 1, None).await, None, "a later state than there is");
    assert_eq!(changes(-1, None).await, None, "a state that is not remembered");
    // A change that another version of sitegate has made is not logged.
    pragma(&store, "UPDATE block_history SET logged = FALSE").await;
    assert_eq!(changes(held.version, None).await, None);
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
            // The blocks that a restored copy had lost have an index of their own.
            let is_part = step.ends_with("INDEX blocks_recovered");
            if table.is_some_and(|table| !SCANNED.contains(&table)) && !is_part {
                scans.push(format!("{step}: {sql}"));
            }
        }
    }
    assert_eq!(scans, [""; 0]);
}

#[tokio::test]
async fn the_audit_is_searched_and_its_old_lines_leave() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StorePlace::Sqlite(dir.path().join("site.db")), now()).await.unwrap();
    let after = |hours: i64| now() + jiff::SignedDuration::from_hours(hours);
    for hour in 1..4 {
        store.record(Action::Opened, "GUID:AB", "", "a", after(hour)).await.unwrap();
    }
    let found = async |filter| {
        let lines = store.audit(filter, 9, None).await.unwrap();
        lines.iter().map(|line| line.at.duration_since(now()).as_hours()).collect::<Vec<_>>()
    };
    let all = AuditFilter { subject: Some("guid:ab"), ..AuditFilter::default() };
    assert_eq!(found(all).await, [3, 2, 1]);
    let since = AuditFilter { since: Some(after(2)), ..all };
    assert_eq!(found(since).await, [3, 2]);
    assert_eq!(found(AuditFilter { until: Some(after(3)), ..since }).await, [2]);
    let kept = Retention { audit: Duration::from_secs(3_600), ..Retention::default() };
    assert_eq!(store.sweep(after(3), kept).await.unwrap().audit, 2);
    assert_eq!(found(all).await, [3, 2]);
}

#[tokio::test]
async fn the_file_shrinks_after_records_were_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("site.db");
    let store = Store::open(&StorePlace::Sqlite(path.clone()), now()).await.unwrap();
    let detail = "x".repeat(10_000);
    for _ in 0..100 {
        store.record(Action::Opened, "s", &detail, "a", now()).await.unwrap();
    }
    let pages = async || {
        let pools = store.db.pools();
        let Pools::Sqlite { read, .. } = &*pools else { panic!() };
        let counted: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(read).await.unwrap();
        counted
    };
    let before = pages().await;
    let kept = Retention { audit: Duration::ZERO, ..Retention::default() };
    store.sweep(now() + Duration::from_secs(1), kept).await.unwrap();
    assert!(pages().await < before / 2, "{before} pages before");
}
