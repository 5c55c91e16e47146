//! Blocks, and their subjects.

use rstest::rstest;
use sitegate::site::store::{
    Action, AuditFilter, Blocked, BlockedOwned, RegisterError, Registration,
};

use super::*;

#[rstest]
#[tokio::test]
async fn a_device_s_block_covers_all_that_it_is_known_by(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let r = Registration { entra: Some(ENTRA), certificate: Some("c1"), ..with_key("k1") };
    let device = enrolled(&store, &r).await;
    let id = device.id.as_str();
    enrolled(&store, &Registration { entra: Some(ENTRA), ..with_key("k2") }).await;
    for name in [id, &id.to_lowercase(), &id[5..], "k1", "k2", ENTRA, "c1"] {
        let what = Blocked::Device(name);
        assert!(store.block(&what, Some("stolen"), "admin", at(5)).await.unwrap(), "{name}");
        let known = store.device(id).await.unwrap().unwrap();
        assert_eq!((known.blocked, known.block_reason.as_deref()), (Some(at(5)), Some("stolen")));
        for brought in [
            Registration { claimed: Some(id), ..with_key("new") },
            Registration { claimed: Some(id), proven_by: Some("k1"), ..with_key("new") },
            Registration { proven_by: Some("k2"), ..with_key("new") },
            Registration { entra: Some(ENTRA), ..with_key("new") },
            Registration { certificate: Some("c1"), ..with_key("new") },
            with_key("k1"),
            with_key("k2"),
        ] {
            let answer = register(&store, &brought).await;
            assert!(matches!(answer, Err(RegisterError::Blocked)), "{name}: {brought:?}");
        }
        let entry = store.blocks().await.unwrap().entries.remove(0);
        let covered = &entry.covers[0];
        assert_eq!((covered.device.as_str(), covered.entra.as_deref()), (id, Some(ENTRA)));
        assert_eq!(
            (covered.keys.concat(), covered.certificates.concat()),
            ("k1k2".into(), "c1".into())
        );
        assert!(store.unblock(&what, "admin", at(6)).await.unwrap());
        assert!(!store.unblock(&what, "admin", at(6)).await.unwrap());
    }
    assert_eq!(store.device(id).await.unwrap().unwrap().blocked, None);
    assert!(register(&store, &with_key("k1")).await.is_ok());
}

#[rstest]
#[tokio::test]
async fn what_is_unknown_can_be_blocked_ahead(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let id = fresh();
    for name in [id, "k1", "c1", ENTRA] {
        assert!(store.block(&Blocked::Device(name), None, "admin", at(1)).await.unwrap());
    }
    for brought in [
        Registration { claimed: Some(id), accept_claims: true, ..with_key("k2") },
        with_key("k1"),
        Registration { certificate: Some("c1"), ..with_key("k3") },
        Registration { entra: Some(ENTRA), ..with_key("k4") },
    ] {
        let answer = register(&store, &brought).await;
        assert!(matches!(answer, Err(RegisterError::Blocked)), "{brought:?}");
    }
    assert!(store.devices(Default::default(), 9, None).await.unwrap().is_empty());
    let entries = store.blocks().await.unwrap().entries;
    assert!(entries.iter().all(|entry| entry.covers.is_empty()), "{entries:?}");
    assert!(entries.iter().any(|entry| entry.what == BlockedOwned::Device(id.to_owned())));
}

#[rstest]
#[tokio::test]
async fn each_change_of_blocks_raises_their_version(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let before = |second| Blocked::IssuedBefore { issuer: ISSUER, before: at(second) };
    let steps = [
        (true, Blocked::Token { issuer: ISSUER, id: "t" }, true),
        (true, Blocked::Token { issuer: ISSUER, id: "t" }, false),
        (true, Blocked::Token { issuer: "another", id: "t" }, true),
        (true, Blocked::User { issuer: None, id: "jo@contoso.com" }, true),
        (true, Blocked::User { issuer: Some(ISSUER), id: "jo@contoso.com" }, true),
        (true, before(100), true),
        // An earlier time would unblock tokens.
        (true, before(50), false),
        (true, before(200), true),
        (false, before(0), true),
        (false, Blocked::User { issuer: None, id: "jo@contoso.com" }, true),
        (false, Blocked::Device("unknown"), false),
    ];
    let mut version = store.block_version().await.unwrap();
    for (block, what, changes) in steps {
        let changed = if block {
            store.block(&what, Some("why"), "admin", at(1)).await.unwrap()
        } else {
            store.unblock(&what, "admin", at(2)).await.unwrap()
        };
        let now = store.block_version().await.unwrap();
        assert_eq!((changed, now > version), (changes, changes), "{what:?}");
        version = now;
    }
    let blocks = store.blocks().await.unwrap();
    assert_eq!(blocks.version, version);
    let left: Vec<_> = blocks.entries.into_iter().map(|entry| entry.what).collect();
    let token = |issuer: &str| BlockedOwned::Token { issuer: issuer.into(), id: "t".into() };
    let user = BlockedOwned::User { issuer: Some(ISSUER.into()), id: "jo@contoso.com".into() };
    assert_eq!(left, [token("another"), token(ISSUER), user]);
}

#[rstest]
#[tokio::test]
async fn a_part_of_a_second_counts_as_a_whole(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let before = at(7) + jiff::SignedDuration::from_millis(1);
    let what = Blocked::IssuedBefore { issuer: ISSUER, before };
    store.block(&what, None, "admin", at(9)).await.unwrap();
    let entry = store.blocks().await.unwrap().entries.remove(0);
    assert_eq!(entry.what, BlockedOwned::IssuedBefore { issuer: ISSUER.into(), before: at(8) });
}

#[rstest]
#[tokio::test]
async fn the_audit_names_actor_and_action(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let store = home.open().await;
    let device = enrolled(&store, &with_key("k1")).await;
    let what = Blocked::Device(&device.id);
    store.block(&what, Some("stolen"), "jo", at(5)).await.unwrap();
    store.unblock(&what, "admin", at(6)).await.unwrap();
    store.record(Action::GrantRefused, &device.id, "key.unknown", "mp01", at(7)).await.unwrap();
    let filter = AuditFilter { subject: Some(&device.id), ..Default::default() };
    let lines = store.audit(filter, 100, None).await.unwrap();
    let told: Vec<_> = lines
        .iter()
        .rev()
        .map(|l| {
            format!(
                "{} {} {}: {}",
                l.at.as_second() - at(0).as_second(),
                l.actor,
                l.action.as_str(),
                l.detail
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "1 a client device.registered: via bulk-token with key k1",
            "5 jo block.added: device: stolen",
            "6 admin block.removed: device",
            "7 mp01 token.refused: key.unknown",
        ]
    );
    let earlier = store.audit(filter, 1, Some(lines[1].id)).await.unwrap();
    assert_eq!(earlier, [lines[2].clone()]);
    let by = AuditFilter { actor: Some("jo"), action: Some(Action::Blocked), ..Default::default() };
    assert_eq!(store.audit(by, 9, None).await.unwrap().len(), 1);
}
