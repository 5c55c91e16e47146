//! When a bundle is made, and when not.

use super::*;
use crate::clock::second;
use crate::site::store::{Blocked, StorePlace};
use crate::site::tokens::{SiteTokens, bundle_keys};
use crate::token::{OpenedBundle, SignerKind};

const NOW: i64 = 1_800_000_000;

struct Scene {
    store: Store,
    publisher: BundlePublisher,
    published: PublishedReader,
    _dir: tempfile::TempDir,
}

async fn scene(bytes_max: usize) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let (state, now) = (dir.path().to_owned(), second(NOW));
    let place = StorePlace::Sqlite(state.join("store/site.db"));
    let store = Store::open(&place, now).await.unwrap();
    let tokens = SiteTokens::open(&state, "PS1", SignerKind::P256, None, "https://x/", now);
    let sources = BundleSources {
        site: "PS1".to_owned(),
        servers: vec!["https://site01:8443".to_owned()],
        origins: Vec::new(),
        tokens: Arc::new(tokens.unwrap()),
        authority: None,
        state,
        life_s: 4 * 86_400,
        bytes_max,
    };
    let (clock, _) = Clock::manual(now);
    let (publisher, published) = BundlePublisher::start(store.clone(), sources, clock).await;
    Scene { store, publisher, published, _dir: dir }
}

impl Scene {
    async fn block(&self, device: &str) {
        let what = Blocked::Device(device);
        assert!(self.store.block(&what, None, "x", second(NOW)).await.unwrap());
    }

    fn blocks(&self) -> usize {
        let published = self.published.borrow();
        published.as_ref().map_or(0, |p| OpenedBundle::peek(&p.lines()).unwrap().blocks.len())
    }
}

#[tokio::test]
async fn a_bundle_that_is_too_large_is_not_made() {
    let mut scene = scene(4_000).await;
    scene.block("GUID:A").await;
    scene.publisher.look().await;
    assert_eq!(scene.blocks(), 1);
    assert_eq!(scene.publisher.health().load().trouble, None);
    let many = "x".repeat(3_000);
    scene.block(&many).await;
    scene.publisher.look().await;
    let trouble = scene.publisher.health().load().trouble.clone().unwrap();
    assert!(trouble.starts_with("the bundle with 2 blocks would have "), "{trouble}");
    assert_eq!(scene.blocks(), 1, "gateways keep the previous bundle");
    scene.store.unblock(&Blocked::Device(&many), "x", second(NOW)).await.unwrap();
    scene.block("GUID:B").await;
    scene.publisher.look().await;
    assert_eq!(scene.publisher.health().load().trouble, None);
    assert_eq!(scene.blocks(), 2);
}

#[tokio::test]
async fn a_publication_is_no_change_of_the_blocks() {
    let mut scene = scene(usize::MAX).await;
    scene.block("GUID:A").await;
    let version = scene.store.block_version().await.unwrap();
    scene.publisher.look().await;
    assert_eq!(scene.blocks(), 1);
    assert_eq!(scene.store.block_version().await.unwrap(), version);
}

#[tokio::test]
async fn a_block_is_a_delta_for_those_who_have_the_version_before() {
    let mut scene = scene(usize::MAX).await;
    let first = scene.published.borrow().clone().unwrap();
    scene.block("GUID:A").await;
    scene.publisher.look().await;
    let next = scene.published.borrow().clone().unwrap();
    let deltas = next.since(first.head.version, &first.head.chain).unwrap();
    let text = String::from_utf8(deltas.concat()).unwrap();
    assert_eq!(first.head.next(&text).unwrap().0, next.head);
    assert_eq!(next.since(next.head.version, &next.head.chain), Some(Vec::new()));
    // Another chain, and a version that is not known.
    assert_eq!(next.since(first.head.version, "another"), None);
    assert_eq!(next.since(1, &first.head.chain), None);
    assert!(next.is_fork(first.head.version, "another") && !next.is_fork(1, "another"));
    // A gateway that reads no deltas.
    let whole = next.whole(&scene.publisher.sources.state, second(NOW)).await.unwrap();
    let whole = OpenedBundle::peek(std::str::from_utf8(&whole).unwrap()).unwrap();
    assert_eq!((whole.head, whole.blocks.len()), (next.head.clone(), 1));
}

#[tokio::test]
async fn many_deltas_become_one_bundle_that_others_follow() {
    let mut scene = scene(usize::MAX).await;
    for n in 0..70 {
        scene.block(&format!("{n}{}", "x".repeat(3_000))).await;
        scene.publisher.look().await;
    }
    let before = scene.published.borrow().clone().unwrap();
    assert!(before.needs_bundle() && before.base().0 < before.head.version);
    let done = folded(&mut scene.publisher.folding).await;
    scene.publisher.replace_bundle(done).await;
    let after = scene.published.borrow().clone().unwrap();
    assert!(!after.needs_bundle() && after.head == before.head);
    scene.block("GUID:A").await;
    scene.publisher.look().await;
    let next = scene.published.borrow().clone().unwrap();
    assert_eq!(next.since(before.head.version, &before.head.chain).unwrap().len(), 1);
    assert_eq!(scene.blocks(), 71);
    // A start reads the same from the store.
    let stored = scene.store.bundle().await.unwrap().unwrap();
    let read = PublishedDocuments::of(stored).unwrap();
    assert_eq!((&read.head, read.lines()), (&next.head, next.lines()));
}

#[tokio::test]
async fn documents_that_cannot_be_read_are_made_anew() {
    let mut scene = scene(usize::MAX).await;
    let version = scene.store.bundle_version().await.unwrap();
    let junk = |_| Ok::<_, StoreError>(NewDocument::Delta("junk".to_owned()));
    scene.store.publish(version, 0, junk, second(NOW)).await.unwrap().unwrap();
    scene.block("GUID:A").await;
    scene.publisher.look().await;
    assert_eq!(scene.publisher.health().load().trouble, None);
    assert_eq!(scene.blocks(), 1);
    assert_eq!(scene.published.borrow().as_ref().unwrap().lines().lines().count(), 1);
}

#[tokio::test]
async fn a_new_chain_is_not_offered_as_deltas_of_the_old_one() {
    let mut scene = scene(usize::MAX).await;
    let first = scene.published.borrow().clone().unwrap();
    scene.block("GUID:A").await;
    scene.publisher.look().await;
    // Another site server begins a new chain.
    let before = scene.published.borrow().clone().unwrap();
    let whole = before.whole(&scene.publisher.sources.state, second(NOW)).await.unwrap();
    let mut begun = Bundle::peek(std::str::from_utf8(&whole).unwrap()).unwrap();
    begun.chain = Some("another".to_owned());
    let keys = bundle_keys(&scene.publisher.sources.state, second(NOW)).unwrap();
    let version = scene.store.bundle_version().await.unwrap();
    let make = |version| {
        begun.version = version;
        let text = begun.sign(keys.current()).unwrap();
        Ok::<_, StoreError>(NewDocument::Bundle(text))
    };
    scene.store.publish(version, before.blocks, make, second(NOW)).await.unwrap().unwrap();
    scene.block("GUID:B").await;
    scene.publisher.look().await;
    let next = scene.published.borrow().clone().unwrap();
    let stored = scene.store.bundle().await.unwrap().unwrap();
    let read = PublishedDocuments::of(stored).unwrap();
    for documents in [&next, &Arc::new(read)] {
        assert_eq!(documents.since(first.head.version, &first.head.chain), None);
        assert_eq!(documents.since(begun.version, "another").map(|deltas| deltas.len()), Some(1));
    }
}
