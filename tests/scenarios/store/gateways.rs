//! Gateways on other hosts: joining, identity, revocation; and the bundle that they follow.

use std::path::Path;

use rstest::rstest;
use sitegate::clock::Clock;
use sitegate::secret::{Password, PasswordSource};
use sitegate::site::store::{
    GatewayIdentity, JoinError, Joining, NewDocument, RoleCertificate, StoreError,
};
use sitegate::site::{Seal, SharedKeys, SharedKeysError};

use super::*;

fn joining<'a>(fingerprint: &'a str, hosts: &'a [String], roles: &'a [String]) -> Joining<'a> {
    Joining { fingerprint, name: "gw1", hosts, roles, expires: at(1_000) }
}

fn identity(thumbprint: &str) -> GatewayIdentity<'_> {
    GatewayIdentity { thumbprint, expires: at(9_000) }
}

#[rstest]
#[tokio::test]
async fn a_join_token_lets_one_gateway_of_its_name_in_once(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    let hosts = ["a.example".to_owned(), "b.example".to_owned()];
    let roles = ["management-point".to_owned()];
    for fingerprint in ["earlier", "one"] {
        store.allow_join(&joining(fingerprint, &hosts, &roles), "admin", at(1)).await.unwrap();
    }
    let join = async |fingerprint: &str, name: &str, thumbprint: &str, second| {
        store.join(fingerprint, name, identity(thumbprint), "net", at(second)).await
    };
    assert!(matches!(join("none", "gw1", "i", 2).await, Err(JoinError::Unknown)));
    // Of two join tokens for one name, the later one is valid.
    assert!(matches!(join("earlier", "gw1", "i", 2).await, Err(JoinError::Unknown)));
    assert!(matches!(join("one", "gw2", "i", 2).await, Err(JoinError::Name)));
    assert!(matches!(join("one", "gw1", "i", 1_000).await, Err(JoinError::Expired)));
    let gateway = join("one", "gw1", "i", 2).await.unwrap();
    assert_eq!((&gateway.hosts[..], &gateway.roles[..]), (&hosts[..], &roles[..]));
    assert!(matches!(join("one", "gw1", "j", 3).await, Err(JoinError::Used)));
    // The response was lost: the holder of the first key may get it again.
    assert_eq!(join("one", "gw1", "i", 3).await.unwrap(), gateway);
    let known = store.gateway_by_identity("i", at(4)).await.unwrap();
    assert_eq!(known.as_ref(), Some(&gateway));
    assert_eq!(store.gateway_by_identity("i", at(9_000)).await.unwrap(), None);

    // A newly installed machine is the gateway from then on, and the old one is not.
    store.allow_join(&joining("two", &hosts, &roles), "admin", at(4)).await.unwrap();
    join("two", "gw1", "k", 5).await.unwrap();
    assert_eq!(store.gateway_by_identity("i", at(6)).await.unwrap(), None);
    assert!(store.gateway_by_identity("k", at(6)).await.unwrap().is_some());
}

#[rstest]
#[tokio::test]
async fn a_revoked_gateway_is_known_by_nothing_until_it_joins_again(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    store.allow_join(&joining("one", &[], &[]), "admin", at(1)).await.unwrap();
    store.join("one", "gw1", identity("i"), "net", at(2)).await.unwrap();
    let certificate = RoleCertificate {
        thumbprint: "ab".into(),
        certificate: "pem".into(),
        gateway: "gw1".into(),
        site_system: "mp".into(),
        hosts: vec!["a.example".into()],
        issued: at(3),
        expires: at(5_000),
        blocked: None,
    };
    assert!(store.role_certificate(&certificate, "net").await.unwrap());
    assert_eq!(store.role_certificates(at(4)).await.unwrap(), std::slice::from_ref(&certificate));
    let waiting = joining("waiting", &[], &[]);
    store.allow_join(&waiting, "admin", at(3)).await.unwrap();
    let version = store.block_version().await.unwrap();
    let revoke = async |name: &str| store.revoke_gateway(name, Some("sold"), "admin", at(4)).await;
    assert_eq!(revoke("gw2").await.unwrap(), None);
    assert_eq!(revoke("gw1").await.unwrap(), Some(true));
    assert_eq!(revoke("gw1").await.unwrap(), Some(false));
    assert!(store.block_version().await.unwrap() > version, "who follows looks again");
    assert_eq!(store.gateway_by_identity("i", at(5)).await.unwrap(), None);
    let blocked = store.role_certificates(at(4)).await.unwrap();
    assert_eq!(blocked[0].blocked, Some(at(4)));
    let gateway = store.gateways().await.unwrap().remove(0);
    assert_eq!((gateway.revoked, gateway.revoke_reason.as_deref()), (Some(at(4)), Some("sold")));
    // A certificate requested in between is not issued, and a pending token is no longer valid.
    let late = RoleCertificate { thumbprint: "cd".into(), ..certificate.clone() };
    assert!(!store.role_certificate(&late, "net").await.unwrap());
    let waited = store.join("waiting", "gw1", identity("w"), "net", at(5)).await;
    assert!(matches!(waited, Err(JoinError::Unknown)));
    // The join token is used up, for every holder.
    let again = store.join("one", "gw1", identity("i"), "net", at(5)).await;
    assert!(matches!(again, Err(JoinError::Used)));
    store.allow_join(&joining("two", &[], &[]), "admin", at(5)).await.unwrap();
    let back = store.join("two", "gw1", identity("i"), "net", at(5)).await.unwrap();
    assert_eq!(back.revoked, None);
}

#[rstest]
#[tokio::test]
async fn a_gateway_is_known_by_its_latest_certificates_alone(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let store = home.open().await;
    store.allow_join(&joining("one", &[], &[]), "admin", at(1)).await.unwrap();
    store.join("one", "gw1", identity("i0"), "net", at(2)).await.unwrap();
    for n in 1..5 {
        let name = format!("i{n}");
        store.add_gateway_identity("gw1", identity(&name), at(2 + n)).await.unwrap();
    }
    store.gateways_have(&[("gw1".to_owned(), 17)].into(), at(20)).await.unwrap();
    for (name, known) in [("i0", false), ("i1", false), ("i2", true), ("i3", true), ("i4", true)] {
        let found = store.gateway_by_identity(name, at(21)).await.unwrap();
        assert_eq!(found.as_ref().map(|gateway| gateway.bundle), known.then_some(17), "{name}");
    }
}

#[rstest]
#[tokio::test]
async fn one_of_several_servers_makes_each_bundle(#[values(Kind::Sqlite, Kind::Pg)] kind: Kind) {
    let home = Home::new(kind);
    let (one, two) = (home.open().await, home.open().await);
    let publish = async |store: &Store, after: u64, document: NewDocument, blocks: i64| {
        let make = |_| Ok::<_, StoreError>(document.clone());
        let made = store.publish(after, blocks, make, at(5)).await.unwrap();
        made.map(|(version, made)| {
            assert_eq!(made, document);
            version
        })
    };
    let bundle = |text: &str| NewDocument::Bundle(text.to_owned());
    let delta = |text: &str| NewDocument::Delta(text.to_owned());
    let (a, b) = tokio::join!(publish(&one, 0, bundle("x"), 0), publish(&two, 0, bundle("x"), 0));
    let first = a.xor(b).expect("one of them has made it");
    assert!(first >= 5_000, "a restored copy does not count anew");
    let (a, b) =
        tokio::join!(publish(&one, first, delta("d"), 3), publish(&two, first, delta("d"), 3));
    let second = a.xor(b).expect("one of them has made it");
    assert!(second > first);
    for store in [&one, &two] {
        let stored = store.bundle().await.unwrap().unwrap();
        assert_eq!((stored.version, stored.head(), stored.blocks), (first, second, 3));
        assert_eq!(stored.lines(), "x\nd");
        assert_eq!(store.bundle_version().await.unwrap(), second);
        assert_eq!(store.bundle_of(3).await.unwrap(), Some(second));
        assert_eq!(store.bundle_of(4).await.unwrap(), None);
    }
    one.bundle_includes(second, 4).await.unwrap();
    assert_eq!(two.bundle_of(4).await.unwrap(), Some(second));
    // A bundle that says the same, by both; the later one is no other.
    one.replace_bundle(second, "xd", 4, at(6)).await.unwrap();
    two.replace_bundle(second, "other", 4, at(6)).await.unwrap();
    let stored = two.bundle().await.unwrap().unwrap();
    assert_eq!((stored.lines().as_str(), stored.head(), stored.blocks), ("xd", second, 4));
    assert_eq!(stored.deltas.len(), 1, "kept for gateways that lag behind");
}

#[rstest]
#[tokio::test]
async fn keys_that_another_server_has_replaced_are_read_again_first(
    #[values(Kind::Sqlite, Kind::Pg)] kind: Kind,
) {
    let home = Home::new(kind);
    let (one, two) = (home.open().await, home.open().await);
    assert_eq!(one.site_keys().await.unwrap(), None);
    let (a, b) = tokio::join!(
        one.keep_site_keys(0, "a", "one", at(1)),
        two.keep_site_keys(0, "b", "two", at(1))
    );
    assert_ne!(a.unwrap(), b.unwrap(), "one of them was first");
    let (version, _) = one.site_keys().await.unwrap().unwrap();
    assert!(one.keep_site_keys(version, "c", "one", at(2)).await.unwrap());
    assert!(!two.keep_site_keys(version, "d", "two", at(2)).await.unwrap());
    assert_eq!(two.site_keys().await.unwrap(), Some((version + 1, "c".to_owned())));
}

#[tokio::test]
async fn keys_are_shared_both_ways_and_survive_a_restored_copy() {
    let home = Home::new(Kind::Sqlite);
    let store = home.open().await;
    let clock = Clock::system();
    let (one, two) = (home.dir.path().join("one"), home.dir.path().join("two"));
    let seal = || {
        let path = home.dir.path().join("seal");
        std::fs::write(&path, "0123456789abcdef0123456789abcdef").unwrap();
        Seal::new(&Password::read(&PasswordSource::File(path)).unwrap().0).unwrap()
    };
    let key = |state: &Path, name: &str| state.join("authority").join(name);
    let put = |state: &Path, name: &str, text: &str| {
        std::fs::create_dir_all(state.join("authority")).unwrap();
        std::fs::write(key(state, name), text).unwrap();
    };
    let start = async |store: &Store, state: &Path| {
        let state = state.to_owned();
        let make = || {
            put(&state, "root.key", "made");
            Ok(())
        };
        SharedKeys::start(&state, seal(), store, &clock, make).await
    };
    let mut first = start(&store, &one).await.unwrap();
    let mut second = start(&store, &two).await.unwrap();
    let read = |state: &Path, name: &str| std::fs::read_to_string(key(state, name)).ok();
    assert_eq!(read(&two, "root.key").as_deref(), Some("made"));
    store.close().await;
    let copy = home.dir.path().join("copy.db");
    std::fs::copy(home.file(), &copy).unwrap();

    // A file created on one server appears on the other, and one deleted on one is put aside there.
    let store = home.open().await;
    put(&two, "root-2.key", "next");
    second.look(&store, &clock).await.unwrap();
    first.look(&store, &clock).await.unwrap();
    assert_eq!(read(&one, "root-2.key").as_deref(), Some("next"));
    std::fs::remove_file(key(&one, "root.key")).unwrap();
    first.look(&store, &clock).await.unwrap();
    second.look(&store, &clock).await.unwrap();
    assert_eq!(read(&two, "root.key"), None);
    assert!(two.join("keys-replaced/authority~root.key").exists(), "nothing is lost");

    // A change made by a command while a server is stopped is reported when it starts.
    put(&one, "root-3.key", "later");
    drop(first);
    start(&store, &one).await.unwrap();
    second.look(&store, &clock).await.unwrap();
    assert_eq!(read(&two, "root-3.key").as_deref(), Some("later"));

    // An old copy does not bring old keys back.
    store.close().await;
    let old = Store::open(&StorePlace::Sqlite(copy), at(9)).await.unwrap();
    assert!(matches!(start(&old, &one).await, Err(SharedKeysError::Older(1, _))));
    assert_eq!(read(&one, "root-3.key").as_deref(), Some("later"));
}
