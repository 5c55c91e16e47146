//! Keys that strangers plant on a device: the rightful client keeps working and gets in.

use rstest::rstest;
use sitegate::site::store::{Approved, Blocked, RegisterError, Registered, Registration};

use super::*;

/// A key that claims a device, with a bulk token, from an address.
fn claim<'a>(device: &'a str, key: &'a str, token: &'a str, address: &str) -> Registration<'a> {
    let address = Some(address.parse().unwrap());
    Registration { claimed: Some(device), token: bulk(token), address, ..with_key(key) }
}

#[rstest]
#[tokio::test]
async fn planted_keys_push_no_key_out_of_the_line(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("former")).await.id;
    let rightful = claim(&device, "rightful", "image", "192.0.2.7");
    let Registered::Rival(_) = register(&store, &rightful).await.unwrap() else { panic!() };
    let mut refused = 0;
    for n in 0..40 {
        let (key, token) = (format!("planted{n}"), format!("token{}", n % 8));
        let address = format!("2001:db8:0:{n}::1");
        let answer = register(&store, &claim(&device, &key, &token, &address)).await;
        refused += usize::from(matches!(answer, Err(RegisterError::Crowded)));
        assert!(matches!(answer, Ok(Registered::Rival(_)) | Err(RegisterError::Crowded)));
    }
    assert!(refused > 20, "what strangers plant has an end");
    let answer = store.approve(&device, &named("rightful"), "admin", at(2)).await.unwrap();
    let Approved::Yes { device, .. } = answer else { panic!("{answer:?}") };
    let active = device.keys.iter().filter(|key| key.active);
    assert_eq!(active.map(|key| key.thumbprint.as_str()).collect::<Vec<_>>(), ["rightful"]);
}

#[rstest]
#[tokio::test]
async fn a_key_after_the_planted_ones_still_gets_in_line(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let r = Registration { entra: Some(ENTRA), certificate: Some("own"), ..with_key("former") };
    let device = enrolled(&store, &r).await.id;
    // One token, leaked with the image, from many networks.
    for n in 0..9 {
        let (key, address) = (format!("planted{n}"), format!("198.51.100.{n}"));
        let _ = register(&store, &claim(&device, &key, "image", &address)).await;
    }
    let late = claim(&device, "late", "image", "192.0.2.7");
    let refused = register(&store, &late).await;
    assert!(matches!(refused, Err(RegisterError::Crowded)), "{refused:?}");
    let with_certificate = Registration { certificate: Some("own"), ..late.clone() };
    let Ok(Registered::Rival(_)) = register(&store, &with_certificate).await else { panic!() };
    let again = Registration { thumbprint: "later", ..with_certificate.clone() };
    let Registered::Rival(now) = register(&store, &again).await.unwrap() else { panic!() };
    assert!(now.key("later").is_some() && now.key("late").is_none(), "one place for a machine");
    let other_token = Registration { token: bulk("fresh"), ..late.clone() };
    let Ok(Registered::Rival(_)) = register(&store, &other_token).await else { panic!() };
    for proof in [
        Registration { proven_by: Some("former"), thumbprint: "p1", ..late.clone() },
        Registration { entra: Some(ENTRA), via: Via::Entra, thumbprint: "p2", ..late },
    ] {
        let Registered::New(_) = register(&store, &proof).await.unwrap() else { panic!() };
    }
}

#[rstest]
#[tokio::test]
async fn a_block_of_a_key_that_only_waits_is_about_that_key_alone(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("own")).await.id;
    let planted = claim(&device, "planted", "b", "192.0.2.66");
    register(&store, &planted).await.unwrap();
    let done = store.block_device("planted", false, None, "admin", at(2)).await.unwrap();
    assert!(done.changed && done.devices.is_empty(), "{done:?}");
    let dropped: Vec<_> = done.dropped.iter().map(|d| (&*d.device, &*d.key)).collect();
    assert_eq!(dropped, [(device.as_str(), "planted")]);
    let known = store.device(&device).await.unwrap().unwrap();
    assert_eq!((keys(&known), known.blocked), ("own".into(), None));
    store.grant(&client_token(Some(&device)), "own").await.unwrap();
    let again = register(&store, &planted).await;
    assert!(matches!(again, Err(RegisterError::Blocked)), "{again:?}");
    // A working key identifies the device.
    let done = store.block_device("own", false, None, "admin", at(3)).await.unwrap();
    assert_eq!((done.devices, done.dropped.len()), (vec![device.clone()], 0));
    assert!(store.device(&device).await.unwrap().unwrap().blocked.is_some());
}

#[rstest]
#[tokio::test]
async fn a_blocked_voucher_drops_the_waiting_keys_it_vouched_for(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("own")).await.id;
    let by = |key, via| Registration { claimed: Some(&device), via, ..with_key(key) };
    for r in [
        Registration { token: bulk("b"), ..by("k1", Via::BulkToken) },
        Registration { token: bulk("good"), ..by("k2", Via::BulkToken) },
        Registration { certificate: Some("c1"), ..by("k3", Via::Certificate) },
        Registration { entra: Some(ENTRA), ..by("k4", Via::Entra) },
    ] {
        register(&store, &r).await.unwrap();
    }
    for what in [
        Blocked::Token { issuer: ISSUER, id: "b" },
        Blocked::Device("c1"),
        Blocked::Device(&ENTRA.to_uppercase()),
    ] {
        assert!(store.block(&what, None, "admin", at(2)).await.unwrap());
    }
    let known = store.device(&device).await.unwrap().unwrap();
    assert_eq!((keys(&known), known.blocked), ("own k2?".into(), None));
}

#[rstest]
#[tokio::test]
async fn a_device_can_be_blocked_with_its_bulk_token(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let by = |key, token| Registration { token: bulk(token), ..with_key(key) };
    let device = enrolled(&store, &by("k1", "leaked")).await.id;
    for (key, token) in [("k2", "leaked"), ("k3", "leaked"), ("k4", "other")] {
        enrolled(&store, &by(key, token)).await;
    }
    let block = async |tokens| {
        let done = store.block_device(&device, tokens, None, "admin", at(2)).await.unwrap();
        let tokens = done.bulk_tokens.iter().map(|t| (t.id.clone(), t.others, t.blocked));
        (done.changed, tokens.collect::<Vec<_>>())
    };
    assert_eq!(block(false).await, (true, vec![("leaked".into(), 2, false)]));
    // It returns as another device, and the token's block ends that.
    enrolled(&store, &by("k5", "leaked")).await;
    assert_eq!(block(true).await, (false, vec![("leaked".into(), 3, true)]));
    let refused = register(&store, &by("k6", "leaked")).await;
    assert!(matches!(refused, Err(RegisterError::TokenBlocked)), "{refused:?}");
    enrolled(&store, &by("k7", "other")).await;
}

#[rstest]
#[tokio::test]
async fn a_second_device_by_one_certificate_waits(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let by = |key, certificate| Registration {
        via: Via::Certificate,
        certificate: Some(certificate),
        ..with_key(key)
    };
    let first = enrolled(&store, &by("k1", "c1")).await.id;
    let Registered::Pending(second) = register(&store, &by("k2", "c1")).await.unwrap() else {
        panic!()
    };
    assert!(second.id != first && !second.approved);
    // For any number of attempts, one record waits, with the latest key.
    let Registered::Pending(third) = register(&store, &by("k3", "c1")).await.unwrap() else {
        panic!()
    };
    assert_eq!((&third.id, keys(&third)), (&second.id, "k3?".into()));
    enrolled(&store, &by("k4", "c2")).await;
}

#[rstest]
#[tokio::test]
async fn a_blocked_squatter_certificate_does_not_block_the_device(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let id = fresh();
    let by = Registration { claimed: Some(id), ..with_key("rightful") };
    let squats = Registration {
        via: Via::Certificate,
        certificate: Some("c1"),
        thumbprint: "planted",
        ..by.clone()
    };
    register(&store, &squats).await.unwrap();
    register(&store, &by).await.unwrap();
    let done = store.block_device("c1", false, None, "admin", at(2)).await.unwrap();
    assert_eq!((done.devices.len(), done.dropped.len()), (0, 1), "{done:?}");
    let answer = store.approve(id, &named("rightful"), "admin", at(3)).await.unwrap();
    assert!(matches!(answer, Approved::Yes { .. }), "{answer:?}");
}
