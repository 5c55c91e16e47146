//! Followers notice a change of the blocks.

use std::time::Duration;

use rstest::rstest;
use sitegate::site::store::{Blocked, Follower, Store};
use tokio::time::timeout;

use super::*;

/// Much longer than needed: this measures nothing.
const WAIT_MAX: Duration = Duration::from_secs(20);

async fn block(store: &Store, id: &str) {
    assert!(store.block(&Blocked::Device(id), None, "admin", at(1)).await.unwrap());
}

/// Waits until the follower's store has this many blocks.
async fn sees(follower: &mut Follower, store: &Store, count: usize) {
    let seen = async {
        while store.blocks().await.is_ok_and(|blocks| blocks.entries.len() < count) {
            follower.changed().await;
        }
    };
    timeout(WAIT_MAX, seen).await.expect("a change is noticed");
}

#[rstest]
#[tokio::test]
async fn two_stores_of_one_place_see_each_other_s_blocks(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let (one, two) = (home.open().await, home.open().await);
    let (mut of_one, mut of_two) = (one.follow(), two.follow());
    for n in 0..10 {
        let (from, follower, to) = match n % 2 {
            0 => (&one, &mut of_two, &two),
            _ => (&two, &mut of_one, &one),
        };
        let id = format!("k{n}");
        tokio::join!(block(from, &id), sees(follower, to, n + 1));
    }
}

#[rstest]
#[tokio::test]
async fn a_store_s_own_change_is_noticed_at_once(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let mut follower = store.follow();
    block(&store, "k1").await;
    // No wait is needed: the change is there at the first poll.
    tokio::select! {
        biased;
        () = follower.changed() => {}
        () = std::future::ready(()) => panic!("it waits for what it should know"),
    }
}

#[rstest]
#[tokio::test]
async fn who_often_stops_waiting_still_notices(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let (one, two) = (home.open().await, home.open().await);
    let mut follower = two.follow();
    block(&one, "k1").await;
    let noticed = async {
        // Each wait is far shorter than the poll interval.
        while timeout(Duration::from_millis(9), follower.changed()).await.is_err() {}
    };
    timeout(WAIT_MAX, noticed).await.expect("a change is noticed");
}

#[rstest]
#[tokio::test]
async fn a_change_without_a_block_wakes_no_follower(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let (one, two) = (home.open().await, home.open().await);
    let mut follower = two.follow();
    enrolled(&one, &with_key("k1")).await;
    one.grant(&client_token(None), "x").await.unwrap();
    // Several poll intervals.
    assert!(timeout(Duration::from_millis(600), follower.changed()).await.is_err());
    block(&one, "k2").await;
    timeout(WAIT_MAX, follower.changed()).await.expect("a change is noticed");
}

#[tokio::test]
async fn a_follower_outlives_its_server() {
    let mut home = Home::new(Kind::Pg);
    let store = home.open().await;
    let other = home.open().await;
    let mut follower = store.follow();
    block(&other, "k1").await;
    sees(&mut follower, &store, 1).await;
    home.server.as_mut().unwrap().stop();
    assert!(timeout(Duration::from_millis(300), follower.changed()).await.is_err());
    home.server.as_mut().unwrap().resume();
    block(&other, "k2").await;
    timeout(WAIT_MAX, follower.changed()).await.expect("a change is noticed");
}
