//! A failing database: its reports, its low cost, and its recovery.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sitegate::site::store::{
    Blocked, OnStore, PostgresUrl, Store, StoreError, StoreEvent, StoreFault, StorePlace,
};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::watch;

use super::*;

/// Much longer than needed: this measures nothing.
const WAIT_MAX: Duration = Duration::from_secs(20);

fn place(url: &str) -> StorePlace {
    StorePlace::Postgres(PostgresUrl::parse(url).unwrap())
}

async fn why_not(url: &str) -> StoreError {
    Store::open_briefly(&place(url)).await.expect_err("it cannot be opened")
}

async fn execute(server: &Postgres, sql: &'static str) {
    PgConnection::connect(&server.url()).await.unwrap().execute(sql).await.unwrap();
}

/// Queries until the store answers again.
async fn works_again(store: &Store) {
    let back = async { while store.block_version().await.is_err() {} };
    tokio::time::timeout(WAIT_MAX, back).await.expect("it is tried again");
}

/// The events of a store, without single failures.
fn events(store: &Store) -> Arc<Mutex<Vec<String>>> {
    let told = Arc::<Mutex<Vec<String>>>::default();
    let into = told.clone();
    let on_event: OnStore = Arc::new(move |event| match event {
        StoreEvent::Failed(_) => {}
        StoreEvent::Down(trouble) => {
            into.lock().unwrap().push(format!("down {}", trouble.fault.code()));
        }
        StoreEvent::Up { .. } => into.lock().unwrap().push("up".to_owned()),
    });
    store.on_event(on_event);
    told
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_refused_login_gives_its_reason() {
    let mut server = Postgres::start();
    execute(&server, "CREATE ROLE jo LOGIN PASSWORD 's3cret'").await;
    execute(&server, "CREATE ROLE few LOGIN PASSWORD 's3cret' CONNECTION LIMIT 0").await;
    server.ask_for_passwords();
    server.stop();
    server.resume();
    for (user, password, database, fault, says) in [
        ("jo", "wr0ng", "postgres", StoreFault::Login, "password authentication failed"),
        ("jo", "s3cret", "nowhere", StoreFault::DatabaseMissing, "\"nowhere\" does not exist"),
        ("few", "s3cret", "postgres", StoreFault::TooManyConnections, "too many connections"),
        // Since PostgreSQL 15 not every user may create tables.
        ("jo", "s3cret", "postgres", StoreFault::Permission, "permission denied"),
    ] {
        let error = why_not(&server.url_of(user, password, database)).await;
        assert_eq!(error.fault(), fault, "{error}");
        let told = error.advice();
        assert!(told.contains(says) && told.contains(fault.hint()), "{told}");
        assert!(!format!("{told} {error:?}").contains(password), "{told}");
    }
}

#[tokio::test]
async fn a_server_that_is_stopped_cannot_be_reached() {
    let mut server = Postgres::start();
    server.stop();
    assert_eq!(why_not(&server.url()).await.fault(), StoreFault::Unreachable);
}

#[tokio::test]
async fn a_silent_server_is_reported_as_no_answer() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let error = why_not(&format!("postgres://jo:s3cret@{at}/site")).await;
    assert_eq!(error.fault(), StoreFault::NoAnswer, "{error}");
    assert!(error.to_string().contains(&at.to_string()), "{error}");
}

#[tokio::test]
async fn a_server_without_free_connections_is_reported_as_such() {
    let mut server = Postgres::start();
    server.stop();
    server.resume_with("max_connections=4");
    let store = Store::open(&place(&server.url()), at(0)).await.unwrap();
    server.stop();
    server.resume();
    // Other clients take all connections first.
    let mut others = Vec::new();
    while let Ok(other) = PgConnection::connect(&server.url()).await {
        others.push(other);
    }
    let error = store.block_version().await.unwrap_err();
    assert_eq!(error.fault(), StoreFault::TooManyConnections, "{error}");
    assert!(error.to_string().contains("too many clients"), "{error}");
    others.pop().unwrap().close().await.unwrap();
    works_again(&store).await;
}

#[tokio::test]
async fn a_server_that_gives_few_connections_is_used_with_those() {
    let server = Postgres::start();
    execute(&server, "CREATE ROLE few LOGIN PASSWORD 's3cret' CONNECTION LIMIT 3").await;
    execute(&server, "CREATE DATABASE site OWNER few").await;
    let url = server.url_of("few", "s3cret", "site");
    let store = Store::open(&place(&url), at(0)).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = store.clone();
        asking.spawn(async move {
            store.block(&Blocked::Device(&format!("k{n}")), None, "a", at(1)).await
        });
    }
    for answer in asking.join_all().await {
        assert!(answer.unwrap());
    }
}

#[tokio::test]
async fn during_an_outage_only_the_probe_connects() {
    let mut server = Postgres::start();
    let store = Store::open(&place(&server.url()), at(0)).await.unwrap();
    server.stop();
    // The replacement listener counts the connection attempts.
    let socket = server.socket();
    let counting = tokio::net::UnixListener::bind(&socket).unwrap();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    let task = tokio::spawn(async move {
        while counting.accept().await.is_ok() {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    while store.block_version().await.is_ok() {}
    let before = count.load(std::sync::atomic::Ordering::SeqCst);
    let asked = 2_000;
    for _ in 0..asked {
        let error = store.block_version().await.unwrap_err();
        assert_eq!(error.fault(), StoreFault::Unreachable, "{error}");
    }
    let came = count.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert!(came < asked / 10, "{came} of {asked} requests came to the database");
    task.abort();
    let _ = task.await;
    std::fs::remove_file(socket).unwrap();
    server.resume();
    works_again(&store).await;
}

#[tokio::test]
async fn an_idle_store_notices_an_outage_and_its_end() {
    let mut server = Postgres::start();
    let store = Store::open(&place(&server.url()), at(0)).await.unwrap();
    let (told, health) = (events(&store), store.health());
    let (stop, stopped) = watch::channel(false);
    let watching = tokio::spawn(store.clone().keep_watch(stopped));
    server.stop();
    until("it is known to be away", || health.peek(|health| health.trouble.is_some())).await;
    server.resume();
    until("it is known to be back", || health.peek(|health| health.trouble.is_none())).await;
    store.block_version().await.unwrap();
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "a line when it begins and one when it ends: {told:?}");
    assert!(told[0].starts_with("down store.") && told[1] == "up", "{told:?}");
    stop.send(true).unwrap();
    watching.await.unwrap();
}

#[tokio::test]
async fn a_frozen_server_is_reported_and_used_again_once_thawed() {
    let server = Postgres::start();
    let store = Store::open(&place(&server.url()), at(0)).await.unwrap();
    store.block_version().await.unwrap();
    server.freeze();
    let error = store.block_version().await.unwrap_err();
    assert_eq!(error.fault(), StoreFault::NoAnswer, "{error}");
    server.thaw();
    works_again(&store).await;
}

#[tokio::test]
async fn after_an_outage_no_request_waits_for_old_connections() {
    let server = Postgres::start();
    let store = Store::open(&place(&server.url()), at(0)).await.unwrap();
    let mut holder = PgConnection::connect(&server.url()).await.unwrap();
    let mut lock = holder.begin().await.unwrap();
    lock.execute("LOCK TABLE blocks IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut stuck = tokio::task::JoinSet::new();
    for n in 0..10 {
        let store = store.clone();
        stuck.spawn(async move {
            let _ = store.block(&Blocked::Device(&format!("k{n}")), None, "a", at(1)).await;
        });
    }
    // On a separate connection: a transaction sees one fixed snapshot of pg_stat_activity.
    let mut looking = PgConnection::connect(&server.url()).await.unwrap();
    let waiting = async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut looking).await.unwrap() < 10 {}
    };
    tokio::time::timeout(WAIT_MAX, waiting).await.expect("all connections are in use");
    server.freeze();
    let away =
        async { while store.block_version().await.unwrap_err().fault() != StoreFault::NoAnswer {} };
    tokio::time::timeout(WAIT_MAX, away).await.expect("it is known to be away");
    server.thaw();
    works_again(&store).await;
    assert_eq!(stuck.len(), 10, "they wait still");
}

#[tokio::test]
async fn a_read_only_database_is_reported_until_a_write_succeeds() {
    let server = Postgres::start();
    let store = Store::open(&place(&server.url()), at(0)).await.unwrap();
    let (told, health) = (events(&store), store.health());
    execute(&server, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    execute(&server, "SELECT pg_reload_conf()").await;
    let refused = async {
        loop {
            let id = fresh();
            if let Err(error) = store.block(&Blocked::Device(id), None, "a", at(1)).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(WAIT_MAX, refused).await.unwrap();
    assert_eq!(error.fault(), StoreFault::ReadOnly, "{error}");
    store.blocks().await.expect("who is blocked is still said");
    assert!(health.peek(|health| health.trouble.is_some()), "reading is no sign that it is over");
    let tried = Store::try_out(&PostgresUrl::parse(&server.url()).unwrap()).await;
    assert_eq!(tried.unwrap_err().fault(), StoreFault::ReadOnly);
    execute(&server, "ALTER SYSTEM RESET default_transaction_read_only").await;
    execute(&server, "SELECT pg_reload_conf()").await;
    let (stop, stopped) = watch::channel(false);
    let watching = tokio::spawn(store.clone().keep_watch(stopped));
    until("it is written again", || health.peek(|health| health.trouble.is_none())).await;
    assert_eq!(*told.lock().unwrap(), ["down store.read_only", "up"]);
    stop.send(true).unwrap();
    watching.await.unwrap();
}

#[tokio::test]
async fn a_failed_transaction_affects_no_other_one() {
    let server = Postgres::start();
    let store = Store::open(&place(&server.url()), at(0)).await.unwrap();
    execute(&server, "ALTER TABLE tokens ADD CONSTRAINT none CHECK (id = '')").await;
    let refused = store.grant(&client_token(None), "x").await;
    assert!(refused.is_err(), "{refused:?}");
    store.block_version().await.expect("the next one passes");
    assert!(store.health().peek(|health| health.trouble.is_none()));
}
