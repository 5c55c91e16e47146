//! The locations of a store, and their faults.

use std::os::unix::fs::PermissionsExt;

use rstest::rstest;
use sitegate::site::store::{PostgresUrl, Store, StoreError, StoreFault, StorePlace};
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};

use super::*;

/// Much longer than needed: this measures nothing.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(20);

/// Changes the content of a closed store directly.
async fn meddle(home: &Home, sql: &'static str) {
    match &home.server {
        None => {
            let url = format!("sqlite://{}", home.file().display());
            SqliteConnection::connect(&url).await.unwrap().execute(sql).await.unwrap();
        }
        Some(server) => {
            PgConnection::connect(&server.url()).await.unwrap().execute(sql).await.unwrap();
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_store_is_opened_again_with_all_that_is_in_it(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    // At once and one after another: the tables are created once.
    let (one, two) = tokio::join!(home.open(), home.open());
    let device = enrolled(&one, &with_key("k1")).await;
    one.close().await;
    assert!(matches!(one.block_version().await, Err(StoreError::Closed)));
    assert_eq!(two.device(&device.id).await.unwrap().as_ref(), Some(&device));
    two.close().await;
    let three = home.open().await;
    assert_eq!(three.device(&device.id).await.unwrap(), Some(device));
}

#[rstest]
#[tokio::test]
async fn a_store_of_a_later_sitegate_is_refused_in_words(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    home.open().await.close().await;
    meddle(
        &home,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
    )
    .await;
    let refused = Store::open(&home.place(), at(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer(9999)), "{refused:?}");
    assert!(refused.to_string().contains("a later version of sitegate"), "{refused}");
}

#[rstest]
#[tokio::test]
async fn what_sitegate_does_not_write_is_an_error(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k1")).await;
    meddle(&home, "UPDATE devices SET via = 'magic'").await;
    let answer = store.device(&device.id).await;
    assert!(matches!(answer, Err(StoreError::Content(_))), "{answer:?}");
}

#[tokio::test]
async fn the_file_and_its_folder_are_closed_to_others() {
    let home = Home::new(Kind::Sqlite);
    let store = home.open().await;
    enrolled(&store, &with_key("k1")).await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let dir = home.file().parent().unwrap().to_owned();
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "the file, its log and the log's index: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let home = Home::new(Kind::Sqlite);
    std::fs::create_dir(home.file().parent().unwrap()).unwrap();
    let text = "somebody's letter\n".repeat(100);
    std::fs::write(home.file(), &text).unwrap();
    let refused = Store::open(&home.place(), at(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged(_)), "{refused:?}");
    assert_eq!(std::fs::read_to_string(home.file()).unwrap(), text);
    let blocked = StorePlace::Sqlite(home.file().join("below/a/file"));
    assert!(matches!(Store::open(&blocked, at(1)).await, Err(StoreError::File { .. })));
}

#[tokio::test]
async fn a_url_is_understood_or_refused_and_never_shown() {
    for text in ["", "mysql://a/b", "postgres://a:b@[/c", "postgres://a/b?sslmode=perhaps"] {
        assert!(matches!(PostgresUrl::parse(text), Err(StoreError::Url)), "{text}");
    }
    // No process listens on port 1.
    let url = PostgresUrl::parse("postgres://jo:s3cret@127.0.0.1:1/site").unwrap();
    let place = StorePlace::Postgres(url);
    assert!(!format!("{place:?}").contains("s3cret"));
    let refused = Store::open_briefly(&place).await.unwrap_err();
    assert_eq!(refused.fault(), StoreFault::Unreachable, "{refused:?}");
    assert!(!format!("{refused:?} {}", refused.advice()).contains("s3cret"));
}

#[tokio::test]
async fn a_database_is_used_again_after_an_outage() {
    let mut home = Home::new(Kind::Pg);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k1")).await;
    home.server.as_mut().unwrap().stop();
    let answer = store.device(&device.id).await;
    assert_eq!(answer.unwrap_err().fault(), StoreFault::Unreachable);
    let answer = register(&store, &with_key("k2")).await;
    assert!(answer.is_err(), "{answer:?}");
    home.server.as_mut().unwrap().resume();
    let back = async { while store.block_version().await.is_err() {} };
    tokio::time::timeout(WAIT_MAX, back).await.expect("it is tried again");
    enrolled(&store, &with_key("k2")).await;
    assert_eq!(store.device(&device.id).await.unwrap(), Some(device));
}
