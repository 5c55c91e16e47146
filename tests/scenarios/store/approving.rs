//! Pending devices, and lists of devices.

use rstest::rstest;
use sitegate::site::store::{
    Action, Approved, AuditFilter, Blocked, DeviceFilter, DeviceOrigin, Registered, Registration,
    RejectedKeys, Retention, WAITING_KEPT_S,
};

use super::*;

#[rstest]
#[tokio::test]
async fn an_approval_lets_in_the_key_that_was_named_and_no_other(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    assert_eq!(
        store.approve(fresh(), &named("k1"), "admin", at(2)).await.unwrap(),
        Approved::Unknown
    );
    let r = Registration { approve: false, ..with_key("k1") };
    register(&store, &r).await.unwrap();
    let claims = Registration { claimed: Some(r.fresh_id), ..with_key("k2") };
    register(&store, &claims).await.unwrap();
    let version = store.block_version().await.unwrap();
    let lower = r.fresh_id.to_lowercase();
    let alone = Approval { alone: true, ..named("k2") };
    assert_eq!(store.approve(&lower, &alone, "admin", at(2)).await.unwrap(), Approved::Several);
    let answer = store.approve(&lower, &named("k2"), "admin", at(2)).await.unwrap();
    let Approved::Yes { device, retired } = answer else { panic!("{answer:?}") };
    assert!(device.approved && retired.is_empty());
    assert_eq!(keys(&device), "k1? k2");
    assert!(store.block_version().await.unwrap() > version, "who follows looks again");
    let again = store.approve(r.fresh_id, &named("k2"), "admin", at(3)).await.unwrap();
    assert_eq!(again, Approved::AlreadyApproved);
    let Registered::Known(_) = register(&store, &claims).await.unwrap() else { panic!() };
    let Registered::Pending(_) = register(&store, &r).await.unwrap() else { panic!() };
}

#[rstest]
#[tokio::test]
async fn an_approval_retires_the_keys_that_a_machine_had_before(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k1")).await;
    let claims = |key| Registration { claimed: Some(&device.id), ..with_key(key) };
    for key in ["k2", "k3"] {
        register(&store, &claims(key)).await.unwrap();
    }
    let keep = Approval { keep: true, ..named("k2") };
    store.approve(&device.id, &keep, "admin", at(2)).await.unwrap();
    let known = store.device(&device.id).await.unwrap().unwrap();
    assert_eq!(keys(&known), "k1 k2 k3?");
    let answer = store.approve(&device.id, &named("k3"), "admin", at(3)).await.unwrap();
    let Approved::Yes { device, retired } = answer else { panic!("{answer:?}") };
    assert_eq!((keys(&device), retired), ("k3".into(), vec!["k1".to_owned(), "k2".into()]));
    // A retired key proves nothing, and waits like any other.
    let again = Registration { claimed: Some(&device.id), proven_by: Some("k1"), ..with_key("k1") };
    let Registered::Rival(device) = register(&store, &again).await.unwrap() else { panic!() };
    assert_eq!(keys(&device), "k3 k1?");
}

#[rstest]
#[tokio::test]
async fn an_approved_device_is_known_only_by_its_approved_key(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let id = fresh();
    let squats = Registration {
        via: Via::Entra,
        entra: Some(ENTRA),
        certificate: Some("c1"),
        claimed: Some(id),
        ..with_key("theirs")
    };
    register(&store, &squats).await.unwrap();
    let own = Registration {
        claimed: Some(id),
        certificate: Some("c2"),
        via: Via::Certificate,
        ..with_key("own")
    };
    register(&store, &own).await.unwrap();
    let answer = store.approve(id, &named("own"), "admin", at(2)).await.unwrap();
    let Approved::Yes { device, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((device.entra.as_deref(), device.via), (None, Via::Certificate));
    // The squatter has proven nothing with the Entra token, and is not that device.
    let again = Registration { claimed: None, ..squats.clone() };
    let Registered::Pending(_) = register(&store, &again).await.unwrap() else { panic!() };
    let comes = Registration { thumbprint: "another", claimed: None, ..squats };
    assert_ne!(enrolled(&store, &comes).await.id, id);
    store.block(&Blocked::Device("c1"), None, "admin", at(3)).await.unwrap();
    assert_eq!(store.device(id).await.unwrap().unwrap().blocked, None);
    store.block(&Blocked::Device("c2"), None, "admin", at(3)).await.unwrap();
    assert!(store.device(id).await.unwrap().unwrap().blocked.is_some());
}

#[rstest]
#[tokio::test]
async fn a_blocked_device_is_not_approved(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let r = Registration { approve: false, ..with_key("k1") };
    register(&store, &r).await.unwrap();
    store.block(&Blocked::Device(r.fresh_id), None, "admin", at(2)).await.unwrap();
    let answer = store.approve(r.fresh_id, &named("k1"), "admin", at(3)).await.unwrap();
    assert_eq!(answer, Approved::Blocked);
    assert!(!store.device(r.fresh_id).await.unwrap().unwrap().approved);
}

#[rstest]
#[tokio::test]
async fn a_rejected_key_waits_no_more(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let reject = async |id: &str, key: &str| store.reject(id, key, "admin", at(2)).await.unwrap();
    let known = enrolled(&store, &with_key("k1")).await.id;
    register(&store, &Registration { claimed: Some(&known), ..with_key("k2") }).await.unwrap();
    let waits = Registration { approve: false, certificate: Some("c1"), ..with_key("k3") };
    register(&store, &waits).await.unwrap();
    register(&store, &Registration { claimed: Some(waits.fresh_id), ..with_key("k4") })
        .await
        .unwrap();
    let cases = [
        (fresh(), "k1", RejectedKeys::Unknown),
        (known.as_str(), "k1", RejectedKeys::NotWaiting),
        (&known, "k3", RejectedKeys::NotWaiting),
        (&known, "k2", RejectedKeys::Yes { forgotten: false }),
        (waits.fresh_id, "k3", RejectedKeys::Yes { forgotten: false }),
        (waits.fresh_id, "k4", RejectedKeys::Yes { forgotten: true }),
        (waits.fresh_id, "k4", RejectedKeys::Unknown),
    ];
    for (id, key, wanted) in cases {
        assert_eq!(reject(id, key).await, wanted, "{id} {key}");
    }
    assert_eq!(keys(&store.device(&known).await.unwrap().unwrap()), "k1");
    assert_eq!(store.device(waits.fresh_id).await.unwrap(), None);
    // The id is free again for any claim.
    let comes = Registration { claimed: Some(waits.fresh_id), ..with_key("k4") };
    let Registered::Pending(_) = register(&store, &comes).await.unwrap() else { panic!() };
}

#[rstest]
#[tokio::test]
async fn a_key_waits_for_thirty_days(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let known = enrolled(&store, &with_key("k1")).await.id;
    let claims = Registration { claimed: Some(&known), ..with_key("k2") };
    register(&store, &claims).await.unwrap();
    let later = Registration { now: at(2), ..claims };
    register(&store, &Registration { thumbprint: "k3", ..later }).await.unwrap();
    let waits = Registration { approve: false, certificate: Some("c1"), ..with_key("k4") };
    register(&store, &waits).await.unwrap();
    assert_eq!(store.sweep(at(1 + WAITING_KEPT_S), Retention::default()).await.unwrap().keys, 0);
    // Both arrived in the second after the start, and so did the working key.
    assert_eq!(store.sweep(at(2 + WAITING_KEPT_S), Retention::default()).await.unwrap().keys, 2);
    assert_eq!(keys(&store.device(&known).await.unwrap().unwrap()), "k1 k3?");
    assert_eq!(store.device(waits.fresh_id).await.unwrap(), None);
    let filter = AuditFilter { subject: Some(&known), ..Default::default() };
    let last = store.audit(filter, 1, None).await.unwrap().remove(0);
    assert_eq!((last.action, last.actor.as_str()), (Action::KeyDropped, "sitegate"));
    assert_eq!(last.detail, "k2: waited for thirty days");
}

#[rstest]
#[tokio::test]
async fn a_key_records_its_origin(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let r = Registration {
        token: bulk("b"),
        certificate: Some("c1"),
        client: Some("PC42"),
        address: Some("::ffff:198.51.100.7".parse().unwrap()),
        ..with_key("k1")
    };
    let device = enrolled(&store, &r).await;
    let origin = DeviceOrigin {
        via: Via::BulkToken,
        token: Some((ISSUER.into(), "b".into())),
        entra: None,
        certificate: Some("c1".into()),
        address: Some([198, 51, 100, 7].into()),
        client: Some("PC42".into()),
    };
    assert_eq!(device.keys[0].origin.as_ref(), Some(&origin));
}

#[rstest]
#[tokio::test]
async fn the_audit_names_the_approved_and_the_rejected_key(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k1")).await;
    for key in ["k2", "k3"] {
        let claims = Registration { claimed: Some(&device.id), token: bulk("b"), ..with_key(key) };
        register(&store, &claims).await.unwrap();
    }
    store.approve(&device.id, &named("k3"), "jo", at(5)).await.unwrap();
    store.reject(&device.id, "k2", "jo", at(6)).await.unwrap();
    let filter = AuditFilter { actor: Some("jo"), ..Default::default() };
    let lines = store.audit(filter, 9, None).await.unwrap();
    let told: Vec<_> =
        lines.iter().rev().map(|l| format!("{}: {}", l.action.as_str(), l.detail)).collect();
    assert_eq!(
        told,
        [
            "device.approved: key k3 via bulk-token b from 192.0.2.7; retired k1; still waiting k2",
            "device.key-rejected: key k2 via bulk-token b from 192.0.2.7",
        ]
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_approve_at_once_let_in_one_key_each_time(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    // Two stores, like two site servers, share only the database.
    let stores = [home.open().await, home.open().await];
    let device = enrolled(&stores[0], &with_key("k0")).await.id;
    for round in 0..5 {
        let pair = [format!("a{round}"), format!("b{round}")];
        for (key, by) in pair.iter().zip(["192.0.2.1", "192.0.2.2"]) {
            let address = Some(by.parse().unwrap());
            let claims = Registration { claimed: Some(&device), address, ..with_key(key) };
            register(&stores[0], &claims).await.unwrap();
        }
        let tasks: Vec<_> = stores
            .iter()
            .zip(pair.clone())
            .map(|(store, key)| {
                let (store, device) = (store.clone(), device.clone());
                tokio::spawn(async move {
                    store.approve(&device, &named(&key), "admin", at(2)).await.unwrap()
                })
            })
            .collect();
        for task in tasks {
            assert!(matches!(task.await.unwrap(), Approved::Yes { .. }));
        }
        // The later one retired the earlier one.
        let known = stores[0].device(&device).await.unwrap().unwrap();
        assert!(pair.contains(&keys(&known)), "{}", keys(&known));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_arrives_while_another_is_approved_stays_waiting(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let stores = [home.open().await, home.open().await];
    for round in 0..10 {
        let (own, id) = (format!("own{round}"), fresh());
        let waits = Registration { approve: false, fresh_id: id, ..with_key(&own) };
        register(&stores[0], &waits).await.unwrap();
        let store = stores[1].clone();
        let rival = tokio::spawn(async move {
            let planted = format!("planted{round}");
            let claims = Registration { claimed: Some(id), ..with_key(&planted) };
            register(&store, &claims).await.unwrap();
        });
        // It may arrive before or after the approval: only the reviewed key is admitted.
        let answer = stores[0].approve(id, &named(&own), "admin", at(2)).await.unwrap();
        assert!(matches!(answer, Approved::Yes { .. }), "{answer:?}");
        rival.await.unwrap();
        let after = keys(&stores[0].device(id).await.unwrap().unwrap());
        assert_eq!(after, format!("own{round} planted{round}?"));
    }
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
