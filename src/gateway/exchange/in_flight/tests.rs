//! A block ends the matching requests in flight at any time, and no others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::live::{Publisher, live};
use crate::purpose::Purpose;
use crate::token::{
    BearerToken, Issuer, KeySet, MintRequest, SignerKind, TokenSigner, Trusted, jwks, verify,
};

const DEVICES: [&str; 2] =
    ["GUID:0A1B2C3D-0000-4000-8000-00000000000A", "GUID:0A1B2C3D-0000-4000-8000-00000000000B"];

fn verified() -> [Arc<Verified>; 2] {
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    let key = TokenSigner::generate(SignerKind::P256).unwrap();
    let signer = TokenSigner::from_pkcs8(&key, None).unwrap();
    let set = jwks([&signer]).to_string();
    let (_publisher, keys) = live(KeySet::parse(&[("own", set.as_bytes())]).0);
    let issuer = Arc::new(Issuer::site("site", None, vec!["https://site.example".to_owned()]));
    let trusted = [Trusted { issuer, keys }];
    DEVICES.map(|device| {
        let request = MintRequest {
            purpose: Purpose::Client,
            device: Some(device),
            user: None,
            audience: "urn:sccm:service",
            issuer: "https://site.example",
            hierarchy: Uuid::from_u128(1),
            lifetime_s: None,
            bound_to: None,
            scope: None,
            origins: &[],
            id: Uuid::from_u128(2),
        };
        let token = signer.mint(&request, now).unwrap();
        Arc::new(verify(&BearerToken::parse(token.as_bytes()).unwrap(), &trusted, now).unwrap())
    })
}

fn blocking(device: &str) -> Blocklist {
    Blocklist::parse(format!("[[block]]\ndevice = \"{device}\"\n").as_bytes()).unwrap()
}

fn empty() -> (Publisher<Blocklist>, Live<Blocklist>) {
    live(Blocklist::default())
}

fn under_way() -> RequestsInFlight {
    RequestsInFlight::new(usize::MAX, &Metrics::new().unwrap())
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn a_block_wakes_only_the_blocked_request() {
    let (all, (_publisher, list)) = (under_way(), empty());
    let [a, b] = verified();
    let shards = [all.shard(), all.shard()];
    // More than one piece, and the blocked one is among the last.
    let others: Vec<InFlightEntry> =
        (0..3 * PIECE).map(|n| shards[n % 2].enter(b.clone(), &list, 0)).collect();
    let place = shards[1].enter(a, &list, 0);
    let woken = Arc::<Woken>::default();
    let waker = woken.clone().into();
    let cx = Context::from_waker(&waker);
    let other = others.last().unwrap();
    for _ in 0..2 {
        assert_eq!((place.poll_blocked(&cx), other.poll_blocked(&cx)), (None, None));
    }
    all.end_blocked(&blocking(DEVICES[0]));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(place.poll_blocked(&cx), Some(Denial::DeviceBlocked));
    assert_eq!(place.poll_blocked(&noop()), Some(Denial::DeviceBlocked));
    assert!(others.iter().all(|other| other.poll_blocked(&noop()).is_none()));
}

#[test]
fn a_block_published_before_entry_is_not_missed() {
    let (all, (publisher, list)) = (under_way(), empty());
    let [a, b] = verified();
    let shard = all.shard();
    let seen = list.generation();
    let new = Arc::new(blocking(DEVICES[0]));
    publisher.publish_arc(new.clone());
    all.end_blocked(&new);
    assert_eq!(
        shard.enter(a.clone(), &list, seen).poll_blocked(&noop()),
        Some(Denial::DeviceBlocked)
    );
    assert_eq!(shard.enter(b, &list, seen).poll_blocked(&noop()), None);
}

#[test]
fn places_are_used_again_and_keep_nothing_of_who_had_them() {
    let (all, (_publisher, list)) = (under_way(), empty());
    let [a, b] = verified();
    let shard = all.shard();
    for _ in 0..1000 {
        let first = shard.enter(a.clone(), &list, 0);
        let second = shard.enter(b.clone(), &list, 0);
        drop(first);
        all.end_blocked(&blocking(DEVICES[0]));
        assert_eq!(second.poll_blocked(&noop()), None);
    }
    assert_eq!(shard.places().all.len(), 2);
    assert_eq!((Arc::strong_count(&a), Arc::strong_count(&b)), (1, 1));
}
