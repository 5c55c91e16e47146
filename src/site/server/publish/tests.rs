//! When a bundle is made, and when not.

use super::*;
use crate::clock::second;
use crate::site::store::{Blocked, StorePlace};
use crate::site::tokens::SiteTokens;
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
