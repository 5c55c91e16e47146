//! Devices that wait, and lists of devices.

use rstest::rstest;
use sitegate::site::store::{Approved, Blocked, DeviceFilter, Registered, Registration};

use super::*;

#[rstest]
#[tokio::test]
async fn an_approval_lets_the_device_work_with_its_waiting_keys(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    assert_eq!(store.approve(fresh(), "admin", at(2)).await.unwrap(), Approved::Unknown);
    let r = Registration { approve: false, ..with_key("k1") };
    register(&store, &r).await.unwrap();
    let claims = Registration { claimed: Some(r.fresh_id), ..with_key("k2") };
    register(&store, &claims).await.unwrap();
    let version = store.block_version().await.unwrap();
    let lower = r.fresh_id.to_lowercase();
    let Approved::Yes(device) = store.approve(&lower, "admin", at(2)).await.unwrap() else {
        panic!()
    };
    assert!(device.approved);
    assert_eq!(keys(&device), "k1 k2");
    assert!(store.block_version().await.unwrap() > version, "who follows looks again");
    let again = store.approve(r.fresh_id, "admin", at(3)).await.unwrap();
    assert_eq!(again, Approved::AlreadyApproved);
    let Registered::Known(_) = register(&store, &claims).await.unwrap() else { panic!() };
}

#[rstest]
#[tokio::test]
async fn a_blocked_device_is_not_approved(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let r = Registration { approve: false, ..with_key("k1") };
    register(&store, &r).await.unwrap();
    store.block(&Blocked::Device("k1"), None, "admin", at(2)).await.unwrap();
    let answer = store.approve(r.fresh_id, "admin", at(3)).await.unwrap();
    assert_eq!(answer, Approved::Blocked);
    assert!(!store.device(r.fresh_id).await.unwrap().unwrap().approved);
}

#[rstest]
#[tokio::test]
async fn lists_show_who_waits_and_who_is_blocked_page_by_page(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let mut all = Vec::new();
    for key in ["a", "b", "c", "d", "e"] {
        all.push(enrolled(&store, &with_key(key)).await.id);
    }
    let waits = Registration { approve: false, ..with_key("f") };
    register(&store, &waits).await.unwrap();
    register(&store, &Registration { claimed: Some(&all[0]), ..with_key("g") }).await.unwrap();
    store.block(&Blocked::Device("b"), Some("stolen"), "admin", at(2)).await.unwrap();
    let ids = async |filter, limit, after: Option<&str>| {
        let page = store.devices(filter, limit, after).await.unwrap();
        page.into_iter().map(|device| device.id).collect::<Vec<_>>()
    };
    let sorted = |ids: &[&str]| {
        let mut ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        ids.sort();
        ids
    };
    let pending = DeviceFilter { pending: true, ..Default::default() };
    assert_eq!(ids(pending, 9, None).await, sorted(&[&all[0], waits.fresh_id]));
    let blocked = DeviceFilter { blocked: true, ..Default::default() };
    assert_eq!(ids(blocked, 9, None).await, [all[1].clone()]);
    let whole = ids(DeviceFilter::default(), 9, None).await;
    assert_eq!(whole.len(), 6);
    let first = ids(DeviceFilter::default(), 4, None).await;
    let second = ids(DeviceFilter::default(), 4, first.last().map(String::as_str)).await;
    assert_eq!([first, second].concat(), whole);
}
