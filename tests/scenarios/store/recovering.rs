//! An older copy of a store recovers forgotten blocks from the gateways.

use rstest::rstest;
use sitegate::site::store::{Blocked, FoundIn, Lost, RECOVERED_BY, RegisterError};
use sitegate::token::Block;

use super::*;

async fn recover(store: &Store, blocks: &[Block]) -> usize {
    store.recover(Lost { blocks, gone: &[] }, FoundIn::Bundle(7), at(3)).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn an_operators_block_survives_forgetting_recovered_ones(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let (kept, let_go) = (fresh(), fresh());
    let blocks = [Block::Device(kept.into()), Block::Device(let_go.into())];
    assert_eq!(recover(&store, &blocks).await, 2);
    assert!(store.block(&Blocked::Device(kept), Some("stolen"), "anna", at(4)).await.unwrap());
    assert_eq!(store.forget_recovered("anna", at(5)).await.unwrap(), 1);
    let entries = store.blocks().await.unwrap().entries;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!((entries[0].actor.as_str(), entries[0].reason.as_deref()), ("anna", Some("stolen")));
}

#[rstest]
#[tokio::test]
async fn recovery_does_not_change_an_operators_block(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let id = fresh();
    store.block(&Blocked::Device(id), None, "anna", at(1)).await.unwrap();
    assert_eq!(recover(&store, &[Block::Device(id.into())]).await, 0);
    assert_ne!(store.blocks().await.unwrap().entries[0].actor, RECOVERED_BY);
}

#[rstest]
#[tokio::test]
async fn what_was_forgotten_on_purpose_is_not_recovered_again(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let id = fresh();
    let blocks = [Block::Device(id.into())];
    recover(&store, &blocks).await;
    store.forget_recovered("anna", at(5)).await.unwrap();
    assert_eq!(recover(&store, &blocks).await, 0, "another gateway knows of it still");
    // Until an operator blocks it again.
    store.block(&Blocked::Device(id), None, "anna", at(6)).await.unwrap();
    store.unblock(&Blocked::Device(id), "anna", at(7)).await.unwrap();
    assert_eq!(recover(&store, &blocks).await, 1);
}

#[rstest]
#[tokio::test]
async fn more_blocks_are_recovered_than_a_database_has_locks(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let blocks: Vec<Block> = (0..20_000).map(|n| Block::User(format!("user-{n}"))).collect();
    assert_eq!(recover(&store, &blocks).await, blocks.len());
}

#[rstest]
#[tokio::test]
async fn a_key_of_a_device_that_the_copy_does_not_have_stays_blocked(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    recover(&store, &[Block::Device(fresh().into()), Block::Device("k1".into())]).await;
    assert!(matches!(register(&store, &with_key("k1")).await, Err(RegisterError::Blocked)));
    assert!(register(&store, &with_key("k2")).await.is_ok());
}
