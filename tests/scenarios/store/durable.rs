//! Confirmed data survives a crash.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use sitegate::site::store::{Blocked, BlockedOwned};
use sqlx::{Connection, Row, SqliteConnection};

use super::*;

const CHILD: &str = "SITEGATE_TEST_STORE_FILE";

/// The process that the next test kills: prints an id once the store has confirmed it.
#[tokio::test]
async fn a_process_that_issues_and_blocks_until_it_is_killed() {
    let Ok(file) = std::env::var(CHILD) else { return };
    let store = Store::open(&StorePlace::Sqlite(file.into()), at(0)).await.unwrap();
    loop {
        let grant = client_token(None);
        store.grant(&grant, "x").await.unwrap();
        say("token", &grant.id.to_string());
        let id = fresh();
        store.block(&Blocked::Device(id), None, "x", at(1)).await.unwrap();
        say("block", id);
        let device = enrolled(&store, &with_key(id)).await;
        say("device", &device.id);
    }
}

fn say(what: &str, id: &str) {
    // In one call: half a line is ignored.
    std::io::stdout().write_all(format!("\n#{what} {id}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_kills_at_any_moment() {
    let home = Home::new(Kind::Sqlite);
    let mut confirmed = Vec::new();
    for _ in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("store::durable::a_process_that_issues_and_blocks_until_it_is_killed")
            .env(CHILD, home.file())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let chance = Uuid::new_v4().as_u128();
        let mut left = chance % 12;
        let mut told = |line: std::io::Result<String>| {
            let line = line.unwrap_or_default();
            let told = line.strip_prefix('#').and_then(|line| line.split_once(' '));
            confirmed.extend(told.map(|(what, id)| (what.to_owned(), id.to_owned())));
            told.is_some()
        };
        while left > 0 {
            left -= u128::from(told(lines.next().expect("it works until it is killed")));
        }
        // At any point within the next confirmation, or before the first.
        std::thread::sleep(std::time::Duration::from_micros((chance >> 64) as u64 % 3000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            told(line);
        }
        let url = format!("sqlite://{}", home.file().display());
        if let Ok(mut connection) = SqliteConnection::connect(&url).await {
            let answer = sqlx::query("PRAGMA integrity_check").fetch_one(&mut connection).await;
            assert_eq!(answer.unwrap().get::<String, _>(0), "ok");
        }
    }
    assert!(confirmed.len() > 100, "{} confirmed", confirmed.len());
    let store = home.open().await;
    let blocks = store.blocks().await.unwrap();
    for (what, id) in confirmed {
        let there = match what.as_str() {
            "token" => store.token(id.parse().unwrap()).await.unwrap().is_some(),
            "device" => store.device(&id).await.unwrap().is_some(),
            _ => {
                let blocked = BlockedOwned::Device(id.clone());
                blocks.entries.iter().any(|entry| entry.what == blocked)
            }
        };
        assert!(there, "{what} {id} was confirmed and is gone");
    }
}

#[tokio::test]
async fn what_postgresql_confirmed_is_there_after_its_crash() {
    let home = Home::new(Kind::Sqlite);
    let mut home = Home { server: Some(Postgres::durable()), ..home };
    let store = home.open().await;
    let mut confirmed = Vec::new();
    for _ in 0..5 {
        for _ in 0..5 {
            let grant = client_token(None);
            store.grant(&grant, "x").await.unwrap();
            confirmed.push(grant.id);
        }
        let server = home.server.as_mut().unwrap();
        server.crash();
        server.resume();
    }
    for id in confirmed {
        assert!(store.token(id).await.unwrap().is_some(), "{id} was confirmed and is gone");
    }
}
