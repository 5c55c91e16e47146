//! The conditions for issuing a token, and the records of it.

use rstest::rstest;
use sitegate::site::store::{
    BlockEntry, Blocked, BlockedOwned, GrantError, Proof, Registration, Retention, TokenFilter,
};

use super::*;

#[rstest]
#[tokio::test]
async fn a_token_is_remembered_by_its_id(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k1")).await;
    let grant = Grant {
        user: Some("jo@contoso.com"),
        bound_to: Some("k1"),
        scope: Some("package:PS100012"),
        uses_max: Some(3),
        subject_token: bulk("an earlier one"),
        renews: true,
        ..client_token(Some(&device.id))
    };
    store.grant(&grant, "a client").await.unwrap();
    let token = store.token(grant.id).await.unwrap().unwrap();
    assert_eq!((token.id, token.issuer.as_str(), token.purpose), (grant.id, ISSUER, grant.purpose));
    assert_eq!((token.device.as_ref(), token.user.as_deref()), (Some(&device.id), grant.user));
    assert_eq!((token.issued, token.expires), (grant.issued, grant.expires));
    assert_eq!((token.bound_to.as_deref(), token.scope.as_deref()), (grant.bound_to, grant.scope));
    assert_eq!((token.audience.as_str(), token.uses_max, token.uses), ("urn:site", Some(3), 0));
    assert_eq!(token.subject_token, Some((ISSUER.to_owned(), "an earlier one".to_owned())));
    let device = store.device(&device.id).await.unwrap().unwrap();
    assert_eq!(device.renewed, Some(grant.issued));
    // A duplicate id is an internal error.
    assert!(matches!(store.grant(&grant, "x").await, Err(GrantError::Store(_))));
    assert!(!token.blocked);
    let id = grant.id.to_string().to_uppercase();
    store.block(&Blocked::Token { issuer: ISSUER, id: &id }, None, "admin", at(20)).await.unwrap();
    assert!(store.token(grant.id).await.unwrap().unwrap().blocked);
}

#[rstest]
#[tokio::test]
async fn only_known_approved_and_unblocked_devices_get_tokens(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let id = fresh();
    let asks = async || store.grant(&client_token(Some(id)), "a client").await;
    assert!(matches!(asks().await, Err(GrantError::UnknownDevice)));
    store.block(&Blocked::Device(id), None, "admin", at(1)).await.unwrap();
    assert!(matches!(asks().await, Err(GrantError::Blocked)));
    store.unblock(&Blocked::Device(id), "admin", at(1)).await.unwrap();
    let waits = Registration { fresh_id: id, approve: false, ..with_key("k1") };
    register(&store, &waits).await.unwrap();
    assert!(matches!(asks().await, Err(GrantError::NotApproved)));
    store.approve(id, &named("k1"), "admin", at(2)).await.unwrap();
    asks().await.unwrap();
    store.block(&Blocked::Device("k1"), None, "admin", at(3)).await.unwrap();
    assert!(matches!(asks().await, Err(GrantError::Blocked)));
    let tokens = store.tokens(TokenFilter::default(), 9, None).await.unwrap();
    assert_eq!(tokens.len(), 1, "what is refused leaves nothing");
}

#[rstest]
#[tokio::test]
async fn a_blocked_user_gets_no_token(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let grant = Grant { user: Some("jo@contoso.com"), ..client_token(None) };
    let what = Blocked::User { issuer: Some("https://elsewhere"), id: "jo@contoso.com" };
    store.block(&what, None, "admin", at(1)).await.unwrap();
    assert!(matches!(store.grant(&grant, "x").await, Err(GrantError::Blocked)));
    store.unblock(&what, "admin", at(2)).await.unwrap();
    store.grant(&grant, "x").await.unwrap();
}

#[rstest]
#[tokio::test]
async fn an_assertion_is_used_once(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let asks = async |client, jti, until, device| {
        let proof = Some(Proof { client, jti, until: at(until) });
        store.grant(&Grant { proof, ..client_token(device) }, "x").await
    };
    // A failed request uses up no proof.
    let unknown = asks("ab", "c", 60, Some(fresh())).await;
    assert!(matches!(unknown, Err(GrantError::UnknownDevice)));
    asks("ab", "c", 60, None).await.unwrap();
    assert!(matches!(asks("ab", "c", 60, None).await, Err(GrantError::Replayed)));
    asks("a", "bc", 60, None).await.unwrap();
    asks("ab", "d", 90, None).await.unwrap();
    assert_eq!(store.sweep(at(61), Retention::default()).await.unwrap().proofs, 2);
    assert!(matches!(asks("ab", "d", 90, None).await, Err(GrantError::Replayed)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_bring_one_assertion_one_gets_a_token(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let stores = [home.open().await, home.open().await];
    let proof = Some(Proof { client: "k1", jti: "j", until: at(60) });
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let store = stores[n % 2].clone();
            let grant = Grant { proof, ..client_token(None) };
            tokio::spawn(async move { store.grant(&grant, "x").await })
        })
        .collect();
    let mut granted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => granted += 1,
            Err(GrantError::Replayed) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(granted, 1);
}

#[rstest]
#[tokio::test]
async fn the_token_that_is_exchanged_must_be_good(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let subject = Grant { uses_max: Some(1), ..client_token(None) };
    store.grant(&subject, "admin").await.unwrap();
    let id = subject.id.to_string();
    let exchange =
        async |id| store.grant(&Grant { subject_token: bulk(id), ..client_token(None) }, "x").await;
    exchange(&id).await.unwrap();
    assert!(matches!(exchange(&id).await, Err(GrantError::SubjectUsedUp)));
    exchange("unlimited").await.unwrap();
    exchange("unlimited").await.unwrap();
    let what = Blocked::Token { issuer: ISSUER, id: "unlimited" };
    store.block(&what, None, "admin", at(1)).await.unwrap();
    assert!(matches!(exchange("unlimited").await, Err(GrantError::SubjectBlocked)));
    let what = Blocked::IssuedBefore { issuer: ISSUER, before: at(11) };
    store.block(&what, None, "admin", at(12)).await.unwrap();
    assert!(matches!(exchange(&id).await, Err(GrantError::SubjectBlocked)));
}

#[rstest]
#[tokio::test]
async fn tokens_are_listed_newest_first_and_deleted_after_a_month(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k1")).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let device = (n > 2).then_some(device.id.as_str());
        let purpose = if n == 4 { Purpose::Content } else { Purpose::Client };
        let (issued, expires) = (at(n), at(100 + n));
        let grant = Grant { purpose, issued, expires, ..client_token(device) };
        store.grant(&grant, "x").await.unwrap();
        ids.insert(0, grant.id);
    }
    let list = async |filter, limit, after| {
        let page = store.tokens(filter, limit, after).await.unwrap();
        page.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };
    let all = TokenFilter::default();
    assert_eq!(list(all, 9, None).await, ids);
    assert_eq!(list(all, 2, Some(ids[1])).await, ids[2..4]);
    let lower = device.id.to_lowercase();
    assert_eq!(list(TokenFilter { device: Some(&lower), ..all }, 9, None).await, ids[..2]);
    let purpose = Some(Purpose::Content);
    assert_eq!(list(TokenFilter { purpose, ..all }, 9, None).await, ids[..1]);
    let live_at = Some(at(102));
    assert_eq!(list(TokenFilter { live_at, ..all }, 9, None).await, ids[..2]);
    let month = 30 * 24 * 60 * 60;
    assert_eq!(store.sweep(at(month + 100), Retention::default()).await.unwrap().tokens, 0);
    assert_eq!(store.sweep(at(month + 102), Retention::default()).await.unwrap().tokens, 2);
    assert_eq!(list(all, 9, None).await, ids[..3]);
}

#[rstest]
#[tokio::test]
async fn the_block_of_a_token_ends_a_day_after_it(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let grant = Grant { issued: at(0), expires: at(100), ..client_token(None) };
    store.grant(&grant, "x").await.unwrap();
    let own = grant.id.to_string().to_uppercase();
    for id in [&*own, "of another issuer"] {
        store.block(&Blocked::Token { issuer: ISSUER, id }, None, "x", at(50)).await.unwrap();
    }
    store.block(&Blocked::Device("d"), None, "x", at(50)).await.unwrap();
    let before = store.blocks().await.unwrap();
    let day = 24 * 60 * 60;
    store.sweep(at(100 + day), Retention::default()).await.unwrap();
    assert_eq!(store.blocks().await.unwrap(), before);
    store.sweep(at(101 + day), Retention::default()).await.unwrap();
    let after = store.blocks().await.unwrap();
    let is_own =
        |entry: &&BlockEntry| matches!(&entry.what, BlockedOwned::Token { id, .. } if *id == own);
    let others = before.entries.iter().filter(|entry| !is_own(entry)).cloned();
    assert_eq!(after.entries, others.collect::<Vec<_>>());
    assert_eq!(after.entries.len(), 2);
    assert!(after.version > before.version, "followers notice");
}
