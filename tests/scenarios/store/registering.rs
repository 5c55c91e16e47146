//! Registration: creation of records, and the owner of each key.

use rstest::rstest;
use sitegate::site::store::{
    Action, AuditFilter, Blocked, KEYS_MAX, RegisterError, Registered, Registration, Store, Via,
};

use super::*;

#[rstest]
#[tokio::test]
async fn a_new_key_makes_a_device_with_the_fresh_id(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let r = Registration { via: Via::Entra, entra: Some(ENTRA), ..with_key("k1") };
    let device = enrolled(&store, &r).await;
    assert_eq!((device.id.as_str(), device.approved), (r.fresh_id, true));
    assert_eq!((device.via, device.registered), (Via::Entra, at(1)));
    assert_eq!(device.entra.as_deref(), Some(ENTRA));
    assert_eq!((device.keys[0].jwk.as_str(), device.keys[0].added), (r.jwk, at(1)));
    for found in [
        store.device(&device.id.to_lowercase()).await.unwrap(),
        store.device_by_key("k1").await.unwrap(),
        store.device_by_entra(&ENTRA.to_uppercase()).await.unwrap(),
    ] {
        assert_eq!(found.as_ref(), Some(&device));
    }
    assert_eq!(store.device_by_key("k2").await.unwrap(), None);
}

#[rstest]
#[tokio::test]
async fn without_approval_a_new_device_waits(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let r = Registration { approve: false, ..with_key("k1") };
    for _ in 0..2 {
        let Registered::Pending(device) = register(&store, &r).await.unwrap() else { panic!() };
        assert_eq!((device.id.as_str(), device.approved), (r.fresh_id, false));
    }
}

#[rstest]
#[tokio::test]
async fn a_retry_changes_nothing_and_costs_no_use(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let r = Registration { token: bulk("b"), uses_max: Some(1), ..with_key("k1") };
    let device = enrolled(&store, &r).await;
    // The response was lost: the client retries, and the server makes up another fresh id.
    let again = Registration { fresh_id: fresh(), now: at(99), ..r.clone() };
    assert_eq!(register(&store, &again).await.unwrap(), Registered::Known(device));
    let lines = store.audit(AuditFilter::default(), 100, None).await.unwrap();
    let registered = lines.iter().filter(|line| line.action == Action::Registered).count();
    assert_eq!(registered, 1, "{lines:#?}");
}

#[rstest]
#[tokio::test]
async fn a_token_is_used_as_often_as_it_may_be(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let given = |key| Registration { token: bulk("b"), uses_max: Some(2), ..with_key(key) };
    enrolled(&store, &given("k1")).await;
    enrolled(&store, &given("k2")).await;
    let refused = register(&store, &given("k3")).await;
    assert!(matches!(refused, Err(RegisterError::TokenUsedUp)), "{refused:?}");
    assert_eq!(store.device_by_key("k3").await.unwrap(), None);
    // The attributes from the token's issue count, not later ones.
    let token = Grant { purpose: Purpose::Registration, uses_max: Some(1), ..client_token(None) };
    store.grant(&token, "admin").await.unwrap();
    let id = token.id.to_string();
    let issued = |key| Registration { token: bulk(&id), uses_max: Some(9), ..with_key(key) };
    enrolled(&store, &issued("k4")).await;
    let refused = register(&store, &issued("k5")).await;
    assert!(matches!(refused, Err(RegisterError::TokenUsedUp)), "{refused:?}");
    assert_eq!(store.token(token.id).await.unwrap().unwrap().uses, 1);
}

#[rstest]
#[tokio::test]
async fn a_blocked_token_registers_no_device(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let refused = |key, token| {
        let store = store.clone();
        async move {
            let answer = register(&store, &Registration { token, ..with_key(key) }).await;
            matches!(answer, Err(RegisterError::TokenBlocked))
        }
    };
    store.block(&Blocked::Token { issuer: ISSUER, id: "b" }, None, "admin", at(2)).await.unwrap();
    assert!(refused("k1", bulk("b")).await);
    assert!(!refused("k2", Some(TokenRef { issuer: "another", ..bulk("b").unwrap() })).await);
    let entra = TokenRef { issuer: "https://sts.windows.net/", id: "uti", issued: None };
    let what = Blocked::Token { issuer: entra.issuer, id: entra.id };
    store.block(&what, None, "admin", at(3)).await.unwrap();
    assert!(refused("k7", Some(entra)).await);
    // By its issue time, as recorded by the site or stated by the token.
    let token = Grant { purpose: Purpose::Registration, ..client_token(None) };
    store.grant(&token, "admin").await.unwrap();
    let (id, before) = (token.id.to_string(), at(11));
    store
        .block(&Blocked::IssuedBefore { issuer: ISSUER, before }, None, "admin", at(12))
        .await
        .unwrap();
    assert!(refused("k3", bulk(&id)).await);
    let foreign = |issued| Some(TokenRef { issued: Some(issued), ..bulk("foreign").unwrap() });
    assert!(refused("k4", foreign(at(10))).await);
    assert!(!refused("k5", foreign(at(11))).await);
    assert!(!refused("k6", bulk("of an unknown time")).await);
}

#[rstest]
#[tokio::test]
async fn a_known_key_is_no_other_device_s(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let one = enrolled(&store, &with_key("k1")).await;
    let two = enrolled(&store, &Registration { entra: Some(ENTRA), ..with_key("k2") }).await;
    let claims = |key, id| Registration { claimed: Some(id), ..with_key(key) };
    for refused in [
        claims("k1", two.id.as_str()),
        claims("k1", fresh()),
        // The Entra id is known, and belongs to another device than the claim or the key.
        Registration { entra: Some(ENTRA), ..claims("k3", one.id.as_str()) },
        Registration { entra: Some(ENTRA), ..with_key("k1") },
    ] {
        let answer = register(&store, &refused).await;
        assert!(matches!(answer, Err(RegisterError::KeyOfAnother)), "{refused:?}: {answer:?}");
    }
    let lower = one.id.to_lowercase();
    let same = register(&store, &claims("k1", &lower)).await.unwrap();
    assert_eq!(same, Registered::Known(one));
}

#[rstest]
#[tokio::test]
async fn the_device_s_entra_token_is_a_proof(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let first = enrolled(&store, &Registration { entra: Some(ENTRA), ..with_key("k1") }).await;
    let second = Registration { entra: Some(ENTRA), now: at(2), ..with_key("k2") };
    let device = enrolled(&store, &second).await;
    assert_eq!((&device.id, keys(&device)), (&first.id, "k1 k2".to_owned()));
}

#[rstest]
#[tokio::test]
async fn a_claim_of_a_known_device_needs_its_key_or_approval(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k1")).await;
    let claims = |key| Registration { claimed: Some(&device.id), ..with_key(key) };
    let proven = enrolled(&store, &Registration { proven_by: Some("k1"), ..claims("k2") }).await;
    assert_eq!(keys(&proven), "k1 k2");
    // Without a proof, or with a proof by a stranger's key, it waits, and the rest of the record
    // stays unchanged.
    let entra = Some(ENTRA);
    for r in [
        Registration { entra, certificate: Some("c1"), via: Via::Entra, ..claims("k3") },
        Registration { proven_by: Some("k4"), ..claims("k4") },
        Registration { proven_by: Some("k3"), ..claims("k3") },
    ] {
        let (Registered::Rival(waits) | Registered::Pending(waits)) =
            register(&store, &r).await.unwrap()
        else {
            panic!()
        };
        assert!(waits.approved && waits.entra.is_none(), "{waits:?}");
        assert!(!waits.has_active(r.thumbprint));
    }
    let waits = store.device(&device.id).await.unwrap().unwrap();
    assert_eq!(keys(&waits), "k1 k2 k3? k4?");
    assert_eq!(store.device_by_entra(ENTRA).await.unwrap(), None);
    // A later proof is equally good.
    let late = enrolled(&store, &Registration { proven_by: Some("k2"), ..claims("k3") }).await;
    assert_eq!(keys(&late), "k1 k2 k3 k4?");
}

#[rstest]
#[tokio::test]
async fn a_proven_device_may_add_to_its_record(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    enrolled(&store, &with_key("k1")).await;
    let tells = Registration { entra: Some(ENTRA), certificate: Some("c1"), ..with_key("k1") };
    // An observer of the key may name it; that must not give access to the record.
    let Registered::Known(device) = register(&store, &tells).await.unwrap() else { panic!() };
    assert_eq!(device.entra, None);
    let proven = Registration { proven_by: Some("k1"), ..tells };
    let Registered::Known(device) = register(&store, &proven).await.unwrap() else { panic!() };
    assert_eq!(device.entra.as_deref(), Some(ENTRA));
    store.block(&Blocked::Device("c1"), None, "admin", at(3)).await.unwrap();
    assert!(store.device(&device.id).await.unwrap().unwrap().blocked.is_some());
}

#[rstest]
#[tokio::test]
async fn a_claim_of_an_unknown_id_waits_unless_claims_are_accepted(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let claims = Registration { claimed: Some(fresh()), ..with_key("k1") };
    let Registered::Pending(waits) = register(&store, &claims).await.unwrap() else { panic!() };
    assert_eq!((Some(waits.id.as_str()), waits.approved), (claims.claimed, false));
    let claims = Registration { claimed: Some(fresh()), accept_claims: true, ..with_key("k2") };
    let device = enrolled(&store, &claims).await;
    assert_eq!((Some(device.id.as_str()), device.approved), (claims.claimed, true));
}

#[rstest]
#[tokio::test]
async fn a_device_works_with_eight_keys_at_most_however_many_wait(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k0")).await;
    let add = async |key: &str, proven: bool| {
        let proven_by = proven.then_some("k0");
        let r = Registration { claimed: Some(&device.id), proven_by, ..with_key(key) };
        register(&store, &r).await.unwrap();
        let device = store.device(&device.id).await.unwrap().unwrap();
        assert!(device.keys.iter().filter(|key| key.active).count() <= KEYS_MAX);
        keys(&device)
    };
    for key in ["w1", "w2"] {
        add(key, false).await;
    }
    for key in ["k1", "k2", "k3", "k4", "k5", "k6"] {
        add(key, true).await;
    }
    assert_eq!(add("k7", true).await, "k0 w1? w2? k1 k2 k3 k4 k5 k6 k7");
    // The oldest working key is replaced, and no pending one.
    assert_eq!(add("k8", true).await, "w1? w2? k1 k2 k3 k4 k5 k6 k7 k8");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_use_a_token_no_more_often_than_it_may_be(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let stores = [home.open().await, home.open().await];
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let (store, key) = (stores[n % 2].clone(), format!("k{n}"));
            tokio::spawn(async move {
                let r = Registration { token: bulk("b"), uses_max: Some(5), ..with_key(&key) };
                register(&store, &r).await
            })
        })
        .collect();
    for task in tasks {
        let answer = task.await.unwrap();
        assert!(matches!(answer, Ok(_) | Err(RegisterError::TokenUsedUp)), "{answer:?}");
    }
    assert_eq!(stores[0].devices(Default::default(), 100, None).await.unwrap().len(), 5);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_once_make_one_device(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    // Two stores, like two processes, share only the database.
    let stores = [home.open().await, home.open().await];
    let id = fresh();
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let store = stores[n % 2].clone();
            tokio::spawn(async move { attempt(&store, n, id).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let devices = stores[0].devices(Default::default(), 100, None).await.unwrap();
    let of_key: Vec<_> = devices.iter().filter(|d| d.key("one").is_some()).collect();
    assert_eq!((devices.len(), of_key.len()), (2, 1), "{devices:#?}");
    let claimed = stores[1].device(id).await.unwrap().unwrap();
    assert_eq!(claimed.keys.iter().filter(|k| k.active).count(), 1, "{claimed:#?}");
}

/// Two in three attempts use one key, the others keys of their own with one claim.
async fn attempt(store: &Store, n: usize, id: &str) {
    let own = format!("own{n}");
    let r = match n % 3 {
        0 => Registration { claimed: Some(id), accept_claims: true, ..with_key(&own) },
        _ => with_key("one"),
    };
    match register(store, &r).await {
        Ok(_) | Err(RegisterError::Crowded) => {}
        Err(error) => panic!("{error}"),
    }
}
