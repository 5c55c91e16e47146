//! End-to-end tests of the certificate path, from files to the served certificate: real folders, a
//! manual clock, and tokio's paused time.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rstest::rstest;
use sitegate_forge::{Forged, LeafKey, Order, Pki, Protection, Usage, pfx};

use crate::cert::Why;
use crate::cert::issuer::{CertAlgorithm, Scope};
use crate::clock::{Hands, second};
use crate::control::report::Observer;
use crate::control::whole_file::SETTLE;
use crate::site::{Authority, AuthorityParams};
use crate::unfit::Unfit;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const HOST: &str = "mp01.contoso.com";

/// A site system with a folder for each source, and a PKI to fill them from.
struct Scene {
    dir: tempfile::TempDir,
    pki: Pki,
    clock: Clock,
    hands: Hands,
    counted: Arc<Counted>,
}

type Swap = (Option<Source>, Option<Source>, Why);

#[derive(Default)]
struct Counted {
    swaps: Mutex<Vec<Swap>>,
    rejections: Mutex<Vec<(Source, Unfit)>>,
}

impl Observer for Counted {
    fn swapped(&self, _: &str, from: Option<Source>, to: Option<Source>, cause: Why) {
        self.swaps.lock().unwrap().push((from, to, cause));
    }

    fn rejected(&self, _: &str, source: Source, unfit: Option<Unfit>) {
        self.rejections.lock().unwrap().extend(unfit.map(|unfit| (source, unfit)));
    }
}

impl Scene {
    fn new() -> Self {
        let (clock, hands) = Clock::manual(second(NOW));
        let pki = Pki::new("Contoso", second(NOW)).unwrap();
        let scene =
            Scene { dir: tempfile::tempdir().unwrap(), pki, clock, hands, counted: Arc::default() };
        for source in Source::ALL {
            fs::create_dir(scene.folder(source)).unwrap();
        }
        scene
    }

    fn folder(&self, source: Source) -> PathBuf {
        self.dir.path().join(source.as_str())
    }

    fn forge(&self, spoil: impl FnOnce(&mut Order)) -> Forged {
        let mut order = Order::fit(&[HOST], second(NOW));
        spoil(&mut order);
        self.pki.issue(&order).unwrap()
    }

    fn put(&self, source: Source, forged: &Forged) {
        let folder = self.folder(source);
        put(&folder, "ca.crt", self.pki.root());
        put(&folder, "tls.key", &forged.key);
        put(&folder, "tls.crt", &forged.chain);
    }

    fn params(&self) -> RotationParams {
        let host = ServerName::try_from(HOST).unwrap();
        RotationParams {
            pki: Some(Folder::new(self.folder(Source::Pki))),
            site_issued: Some(SiteIssued::Folder(Folder::new(self.folder(Source::SiteIssued)))),
            observer: self.counted.clone(),
            ..RotationParams::new("mp01", vec![host])
        }
    }

    fn start(&self) -> (Rotation, Live<Served>) {
        Rotation::start(self.params(), self.clock.clone(), provider())
    }

    fn rejections(&self) -> Vec<(Source, Unfit)> {
        self.counted.rejections.lock().unwrap().clone()
    }

    fn swaps(&self) -> Vec<Swap> {
        self.counted.swaps.lock().unwrap().clone()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Writes atomically: to a temporary file beside, then rename.
fn put(folder: &Path, name: &str, text: &str) {
    let next = folder.join(".next");
    fs::write(&next, text).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(next, folder.join(name)).unwrap();
}

fn empty(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

/// Evaluates now, and again when files have had their time to settle.
async fn settle(rotation: &mut Rotation) {
    rotation.evaluate();
    tokio::time::advance(SETTLE).await;
    rotation.evaluate();
}

fn outcome(served: &Live<Served>) -> (Why, Option<Source>) {
    served.peek(|s| (s.selection.why, s.selection.chosen.as_ref().map(|c| c.source())))
}

fn thumbprint(served: &Live<Served>) -> Option<String> {
    served.peek(|s| s.selection.chosen.as_ref().map(|c| c.facts().sha256.clone()))
}

/// Runs the rotation beside a script, until the script has ended.
async fn beside<T>(rotation: Rotation, script: impl Future<Output = T>) -> T {
    let (stop, stopped) = watch::channel(false);
    let (outcome, ()) = tokio::join!(
        async {
            let outcome = script.await;
            stop.send(true).unwrap();
            outcome
        },
        rotation.run(stopped)
    );
    outcome
}

/// Waits in real time until a condition holds.
async fn until(what: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never came to be");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// The states of a folder that occur in operation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Fit,
    Expired,
    NotYet,
    WrongName,
    NoServerAuth,
    Authority,
    Mismatch,
    HalfWritten,
    Absent,
}

impl State {
    fn bring_about(self, scene: &Scene, source: Source) {
        let folder = scene.folder(source);
        match self {
            State::Fit => scene.put(source, &scene.forge(|o| o.until = second(NOW + 80 * DAY))),
            State::Expired => scene.put(source, &scene.forge(|o| o.until = second(NOW - 1))),
            State::NotYet => scene.put(source, &scene.forge(|o| o.from = second(NOW + 60 * DAY))),
            State::WrongName => {
                scene.put(source, &scene.forge(|o| o.hosts = vec!["dp01.contoso.com".to_owned()]));
            }
            State::NoServerAuth => scene.put(source, &scene.forge(|o| o.usage = Usage::Client)),
            State::Authority => scene.put(source, &scene.forge(|o| o.is_ca = true)),
            State::Mismatch => {
                scene.put(source, &scene.forge(|_| ()));
                put(&folder, "tls.crt", &scene.forge(|_| ()).chain);
            }
            State::HalfWritten => {
                scene.put(source, &scene.forge(|_| ()));
                let whole = fs::read(folder.join("tls.crt")).unwrap();
                // Cut within the leaf: the first half of the file may already contain the whole
                // leaf.
                fs::write(folder.join("tls.crt"), &whole[..whole.len() / 3]).unwrap();
            }
            State::Absent => empty(&folder),
        }
    }

    fn unfit(self) -> Option<Unfit> {
        match self {
            State::Fit => None,
            State::Expired => Some(Unfit::Expired),
            State::NotYet => Some(Unfit::NotYetValid),
            State::WrongName => Some(Unfit::NameMismatch),
            State::NoServerAuth => Some(Unfit::UsageMismatch),
            State::Authority => Some(Unfit::IsAuthority),
            State::Mismatch => Some(Unfit::KeyMismatch),
            State::HalfWritten => Some(Unfit::Incomplete),
            State::Absent => Some(Unfit::Absent),
        }
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn at_start_a_fit_pki_certificate_precedes_a_site_issued_one(
    #[values(
        State::Fit,
        State::Expired,
        State::NotYet,
        State::WrongName,
        State::NoServerAuth,
        State::Authority,
        State::Mismatch,
        State::HalfWritten,
        State::Absent
    )]
    pki: State,
    #[values(State::Fit, State::Expired, State::Absent)] site: State,
) {
    let scene = Scene::new();
    pki.bring_about(&scene, Source::Pki);
    site.bring_about(&scene, Source::SiteIssued);
    let (mut rotation, served) = scene.start();
    for _ in 0..2 {
        let expected = match (pki, site) {
            (State::Fit, _) => (Why::PkiFit, Some(Source::Pki)),
            (State::Absent, State::Fit) => (Why::SiteIssuedNoPki, Some(Source::SiteIssued)),
            (_, State::Fit) => (Why::SiteIssuedPkiUnfit, Some(Source::SiteIssued)),
            _ => (Why::NothingFit, None),
        };
        assert_eq!(outcome(&served), expected);
        let now = served.load();
        assert_eq!(now.config.is_some(), expected.1.is_some());
        let rejected: Vec<_> =
            now.selection.rejected.iter().map(|r| (r.source, r.fault.unfit)).collect();
        let of = |state: State, source| state.unfit().map(|unfit| (source, unfit));
        let unfit = [of(pki, Source::Pki), of(site, Source::SiteIssued)];
        assert_eq!(rejected, unfit.into_iter().flatten().collect::<Vec<_>>());
        settle(&mut rotation).await;
    }
    assert!(served.load().swaps <= 1, "no flapping");
    let told = [(pki, Source::Pki), (site, Source::SiteIssued)];
    let told = told.iter().filter(|(state, _)| *state != State::Absent);
    let told: Vec<_> = told.filter_map(|(state, source)| Some((*source, state.unfit()?))).collect();
    let mut counted = scene.rejections();
    counted.sort();
    assert_eq!(counted, told, "each rejection is told once");
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn while_running_a_worse_certificate_replaces_nothing(
    #[values(
        State::Fit,
        State::Expired,
        State::NotYet,
        State::WrongName,
        State::NoServerAuth,
        State::Authority,
        State::Mismatch,
        State::HalfWritten,
        State::Absent
    )]
    pki: State,
    #[values(State::Fit, State::Expired, State::Absent)] site: State,
) {
    let scene = Scene::new();
    scene.put(Source::Pki, &scene.forge(|o| o.until = second(NOW + DAY)));
    site.bring_about(&scene, Source::SiteIssued);
    let (mut rotation, served) = scene.start();
    let before = thumbprint(&served);
    assert_eq!(outcome(&served).0, Why::PkiFit);

    pki.bring_about(&scene, Source::Pki);
    settle(&mut rotation).await;
    let expected = match (pki, site) {
        (State::Fit, _) => (Why::PkiFit, Some(Source::Pki)),
        (State::Absent, State::Fit) => (Why::SiteIssuedNoPki, Some(Source::SiteIssued)),
        (State::Absent, _) => (Why::LastServedWithdrawn, Some(Source::Pki)),
        _ => (Why::PkiKept, Some(Source::Pki)),
    };
    assert_eq!(outcome(&served), expected);
    assert_eq!(
        thumbprint(&served) == before,
        matches!(expected.0, Why::PkiKept | Why::LastServedWithdrawn)
    );

    scene.hands.set(second(NOW + DAY + 1));
    rotation.evaluate();
    let expected = match (pki, site) {
        (State::Fit, _) => (Why::PkiFit, Some(Source::Pki)),
        (State::Absent, State::Fit) => (Why::SiteIssuedNoPki, Some(Source::SiteIssued)),
        (_, State::Fit) => (Why::SiteIssuedPkiUnfit, Some(Source::SiteIssued)),
        _ => (Why::LastServedExpired, Some(Source::Pki)),
    };
    assert_eq!(outcome(&served), expected);
    assert!(served.load().config.is_some(), "the port answers");

    State::Fit.bring_about(&scene, Source::Pki);
    settle(&mut rotation).await;
    assert_eq!(outcome(&served), (Why::PkiFit, Some(Source::Pki)), "back by itself");
}

#[tokio::test(start_paused = true)]
async fn the_certificate_switches_on_time_without_a_file_event() {
    let scene = Scene::new();
    scene.put(Source::SiteIssued, &scene.forge(|_| ()));
    scene.put(
        Source::Pki,
        &scene.forge(|o| {
            o.from = second(NOW + 10);
            o.until = second(NOW + 20);
        }),
    );
    let (rotation, served) = scene.start();
    assert_eq!(outcome(&served).0, Why::SiteIssuedPkiUnfit);
    beside(rotation, async {
        for (seconds, expected) in [
            (9, Why::SiteIssuedPkiUnfit),
            (1, Why::PkiFit),
            (10, Why::PkiFit),
            (1, Why::SiteIssuedPkiUnfit),
        ] {
            scene.hands.advance(seconds);
            tokio::time::sleep(
                Duration::from_secs(seconds.unsigned_abs()) + Duration::from_millis(50),
            )
            .await;
            assert_eq!(outcome(&served).0, expected);
        }
    })
    .await;
    assert_eq!(scene.swaps().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_noticed_within_half_a_minute() {
    let scene = Scene::new();
    for source in Source::ALL {
        scene.put(
            source,
            &scene.forge(|o| {
                if source == Source::Pki {
                    o.until = second(NOW + 40 * DAY)
                }
            }),
        );
    }
    let params = RotationParams { poll: Duration::from_secs(3600), ..scene.params() };
    let (rotation, served) = Rotation::start(params, scene.clock.clone(), provider());
    beside(rotation, async {
        scene.hands.set(second(NOW + 41 * DAY));
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(outcome(&served).0, Why::SiteIssuedPkiUnfit);
        scene.hands.set(second(NOW));
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(outcome(&served).0, Why::PkiFit);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_before_the_clock_is_set_recovers_once_it_is_set() {
    let scene = Scene::new();
    scene.hands.set(second(10));
    let site_issued = Some(SiteIssued::Authority(authority(&scene)));
    let params = RotationParams { site_issued, ..scene.params() };
    let (rotation, served) = Rotation::start(params, scene.clock.clone(), provider());
    assert_eq!(outcome(&served), (Why::NothingFit, None));
    beside(rotation, async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(outcome(&served), (Why::NothingFit, None));
        scene.hands.set(second(NOW));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(outcome(&served), (Why::SiteIssuedNoPki, Some(Source::SiteIssued)));
    })
    .await;
}

fn authority(scene: &Scene) -> Arc<Authority> {
    let params = AuthorityParams {
        site_code: "PS1".to_owned(),
        scope: Scope::new(&["contoso.com"]).unwrap(),
        algorithm: CertAlgorithm::P256,
        whole_chains: Default::default(),
        roots: Vec::new(),
        crl_url: None,
    };
    Arc::new(Authority::new(&scene.dir.path().join("state"), params, provider()))
}

#[tokio::test(start_paused = true)]
async fn the_site_issued_certificate_is_renewed_at_two_thirds() {
    let scene = Scene::new();
    let site_issued = Some(SiteIssued::Authority(authority(&scene)));
    let params = RotationParams { site_issued, ..scene.params() };
    let (rotation, served) = Rotation::start(params, scene.clock.clone(), provider());
    assert_eq!(outcome(&served), (Why::SiteIssuedNoPki, Some(Source::SiteIssued)));
    let first = thumbprint(&served);
    beside(rotation, async {
        scene.hands.advance(59 * DAY);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(thumbprint(&served), first);
        scene.hands.advance(DAY);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_ne!(thumbprint(&served), first);
        assert_eq!(outcome(&served).0, Why::SiteIssuedNoPki);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_blocked_certificate_is_replaced_and_never_served_again() {
    use crate::cert::issuer::RevocationReason;
    let scene = Scene::new();
    let site = authority(&scene);
    let site_issued = Some(SiteIssued::Authority(site.clone()));
    let params = RotationParams { site_issued, ..scene.params() };
    let (mut rotation, served) = Rotation::start(params, scene.clock.clone(), provider());
    let first = thumbprint(&served);
    site.block(first.as_deref().unwrap(), RevocationReason::KeyCompromise, second(NOW)).unwrap();
    rotation.evaluate();
    assert_eq!(outcome(&served), (Why::SiteIssuedNoPki, Some(Source::SiteIssued)));
    let replaced = thumbprint(&served);
    assert_ne!(replaced, first);
    site.block(replaced.as_deref().unwrap(), RevocationReason::KeyCompromise, second(NOW)).unwrap();
    let dir = scene.dir.path().join("state/authority");
    fs::write(dir.join("role.crt"), "garbage").unwrap();
    fs::write(dir.join("root.crt"), "garbage").unwrap();
    rotation.evaluate();
    assert_ne!(thumbprint(&served), replaced);
}

#[tokio::test(start_paused = true)]
async fn a_site_system_without_site_issuance_reports_the_reason() {
    let scene = Scene::new();
    let site_issued = Some(SiteIssued::Never("other roles"));
    let params = RotationParams { site_issued, ..scene.params() };
    let (_rotation, served) = Rotation::start(params, scene.clock.clone(), provider());
    assert_eq!(outcome(&served), (Why::NothingFit, None));
    let served = served.load();
    let mut faults = served.selection.rejected.iter().map(|r| &r.fault);
    assert!(faults.any(|f| f.unfit == Unfit::NotIssued && f.detail == "other roles"));
}

#[tokio::test(start_paused = true)]
async fn a_broken_site_root_does_not_stop_the_pki_certificate() {
    let scene = Scene::new();
    fs::create_dir_all(scene.dir.path().join("state/authority")).unwrap();
    fs::write(scene.dir.path().join("state/authority/root.crt"), "garbage").unwrap();
    State::Fit.bring_about(&scene, Source::Pki);
    let site_issued = Some(SiteIssued::Authority(authority(&scene)));
    let params = RotationParams { site_issued, ..scene.params() };
    let (_rotation, served) = Rotation::start(params, scene.clock.clone(), provider());
    assert_eq!(outcome(&served).0, Why::PkiFit);
    assert_eq!(scene.rejections(), [(Source::SiteIssued, Unfit::NotIssued)]);
}

#[tokio::test(start_paused = true)]
async fn with_pki_only_and_nothing_fit_handshakes_are_refused() {
    let scene = Scene::new();
    let params = RotationParams { site_issued: None, ..scene.params() };
    let (mut rotation, served) = Rotation::start(params, scene.clock.clone(), provider());
    assert!(served.load().config.is_none());
    assert_eq!(served.load().selection.rejected.len(), 1, "the reason is there for /readyz");
    State::Fit.bring_about(&scene, Source::Pki);
    rotation.evaluate();
    assert_eq!(outcome(&served).0, Why::PkiFit);
}

#[tokio::test(start_paused = true)]
async fn after_a_reload_the_last_served_goes_on_even_if_expired() {
    let scene = Scene::new();
    scene.put(Source::Pki, &scene.forge(|o| o.until = second(NOW + DAY)));
    let (rotation, served) = scene.start();
    drop(rotation);
    scene.hands.advance(2 * DAY);
    let params = RotationParams { previous: Some(served.load()), ..scene.params() };
    let (_rotation, again) = Rotation::start(params, scene.clock.clone(), provider());
    assert_eq!(outcome(&again), (Why::LastServedExpired, Some(Source::Pki)));
    assert!(again.load().config.is_some());
    assert_eq!(thumbprint(&again), thumbprint(&served));
    let (_rotation, cold) = scene.start();
    assert_eq!(outcome(&cold), (Why::NothingFit, None), "a start knows nothing of the past");
}

#[rstest]
#[case::empty_certificate(|d: &Path| fs::write(d.join("tls.crt"), "").unwrap(), Unfit::Incomplete)]
#[case::half_a_key(|d: &Path| fs::write(d.join("tls.key"), "-----BEGIN PRIVATE KEY-----\nMIGH").unwrap(), Unfit::Incomplete)]
#[case::garbage(|d: &Path| fs::write(d.join("tls.crt"), [0xFF; 99]).unwrap(), Unfit::Malformed)]
#[case::directory(|d: &Path| { fs::remove_file(d.join("tls.crt")).unwrap(); fs::create_dir(d.join("tls.crt")).unwrap() }, Unfit::Unreadable)]
#[case::twenty_megabytes(|d: &Path| fs::write(d.join("tls.crt"), vec![b'x'; 20 << 20]).unwrap(), Unfit::Unreadable)]
#[case::missing_key(|d: &Path| fs::remove_file(d.join("tls.key")).unwrap(), Unfit::Incomplete)]
#[case::exposed_key(|d: &Path| fs::set_permissions(d.join("tls.key"), fs::Permissions::from_mode(0o644)).unwrap(), Unfit::KeyExposed)]
#[case::broken_roots(|d: &Path| fs::write(d.join("ca.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap(), Unfit::Malformed)]
#[tokio::test(start_paused = true)]
async fn broken_files_change_nothing_served_and_are_reported_once(
    #[case] break_it: fn(&Path),
    #[case] unfit: Unfit,
) {
    let scene = Scene::new();
    State::Fit.bring_about(&scene, Source::Pki);
    let (mut rotation, served) = scene.start();
    let before = thumbprint(&served);
    break_it(&scene.folder(Source::Pki));
    for _ in 0..5 {
        settle(&mut rotation).await;
    }
    assert_eq!(thumbprint(&served), before);
    assert_eq!(outcome(&served).0, Why::PkiKept);
    assert_eq!(scene.rejections().iter().filter(|r| r.0 == Source::Pki).count(), 1);
    assert_eq!(scene.rejections().last(), Some(&(Source::Pki, unfit)));
}

#[rstest]
#[case::certificate_first(&["tls.crt", "tls.key"])]
#[case::key_first(&["tls.key", "tls.crt"])]
#[tokio::test]
async fn a_pair_written_in_two_steps_is_served_only_when_complete(#[case] order: &[&str]) {
    let scene = Scene::new();
    State::Fit.bring_about(&scene, Source::Pki);
    let (rotation, served) = scene.start();
    let (before, new) = (thumbprint(&served), scene.forge(|_| ()));
    let folder = scene.folder(Source::Pki);
    beside(rotation, async {
        for (step, name) in order.iter().enumerate() {
            let text = if *name == "tls.crt" { &new.chain } else { new.key.as_str() };
            put(&folder, name, text);
            if step == 0 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert_eq!(thumbprint(&served), before);
                assert_eq!(outcome(&served).0, Why::PkiFit, "nothing is said of what is under way");
            }
        }
        until(|| thumbprint(&served) != before).await;
    })
    .await;
    assert_eq!((served.load().swaps, scene.rejections()), (2, vec![]));
}

#[rstest]
#[case::renamed_over(|_: &Path| (), |d: &Path, f: &Forged| { put(d, "tls.key", &f.key); put(d, "tls.crt", &f.chain) })]
#[case::written_in_place(
    |d: &Path| fs::write(d.join("tls.crt"), "").unwrap(),
    |d: &Path, f: &Forged| { fs::write(d.join("tls.crt"), &f.chain).unwrap(); fs::write(d.join("tls.key"), f.key.as_bytes()).unwrap() }
)]
#[case::removed_and_made_again(
    |d: &Path| for name in ["tls.crt", "tls.key"] { fs::remove_file(d.join(name)).unwrap() },
    |d: &Path, f: &Forged| { put(d, "tls.key", &f.key); put(d, "tls.crt", &f.chain) }
)]
#[case::folder_replaced(
    |d: &Path| fs::rename(d, d.with_extension("old")).unwrap(),
    |d: &Path, f: &Forged| {
        let (old, next) = (d.with_extension("old"), d.with_extension("next"));
        fs::create_dir(&next).unwrap();
        fs::copy(old.join("ca.crt"), next.join("ca.crt")).unwrap();
        put(&next, "tls.key", &f.key);
        put(&next, "tls.crt", &f.chain);
        fs::rename(&next, d).unwrap();
        fs::remove_dir_all(old).unwrap();
    }
)]
#[tokio::test]
async fn every_way_to_replace_files_is_followed(
    #[case] begin: fn(&Path),
    #[case] finish: fn(&Path, &Forged),
) {
    let scene = Scene::new();
    for source in Source::ALL {
        State::Fit.bring_about(&scene, source);
    }
    let (rotation, served) = scene.start();
    beside(rotation, async {
        for _ in 0..2 {
            let (before, new) = (thumbprint(&served), scene.forge(|_| ()));
            begin(&scene.folder(Source::Pki));
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!((outcome(&served).0, thumbprint(&served)), (Why::PkiFit, before.clone()));
            finish(&scene.folder(Source::Pki), &new);
            until(|| thumbprint(&served) != before).await;
        }
    })
    .await;
    let pki = Some(Source::Pki);
    assert_eq!(scene.swaps()[1..], [(pki, pki, Why::PkiFit), (pki, pki, Why::PkiFit)]);
}

#[tokio::test]
async fn a_volume_swapped_as_kubernetes_does_is_followed_each_time() {
    let scene = Scene::new();
    let folder = scene.folder(Source::Pki);
    let lay = |version: &str, forged: &Forged| {
        fs::create_dir(folder.join(version)).unwrap();
        put(&folder.join(version), "ca.crt", scene.pki.root());
        put(&folder.join(version), "tls.key", &forged.key);
        put(&folder.join(version), "tls.crt", &forged.chain);
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    lay("..1", &scene.forge(|_| ()));
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), folder.join(name)).unwrap();
    }
    let (rotation, served) = scene.start();
    assert_eq!(outcome(&served).0, Why::PkiFit);
    beside(rotation, async {
        for version in ["..2", "..3"] {
            let before = thumbprint(&served);
            lay(version, &scene.forge(|_| ()));
            until(|| thumbprint(&served) != before).await;
        }
    })
    .await;
    assert_eq!(served.load().swaps, 3);
}

#[tokio::test]
async fn a_swap_is_live_within_milliseconds_of_the_rename() {
    let scene = Scene::new();
    State::Fit.bring_about(&scene, Source::Pki);
    let (rotation, served) = scene.start();
    let mut taken = Vec::new();
    beside(rotation, async {
        for _ in 0..15 {
            let (before, new) = (thumbprint(&served), scene.forge(|_| ()));
            // The rename of the key is not measured.
            put(&scene.folder(Source::Pki), "tls.key", &new.key);
            tokio::time::sleep(Duration::from_millis(5)).await;
            put(&scene.folder(Source::Pki), "tls.crt", &new.chain);
            let start = std::time::Instant::now();
            while thumbprint(&served) == before {
                tokio::task::yield_now().await;
                assert!(start.elapsed() < Duration::from_secs(5));
            }
            taken.push(start.elapsed());
        }
    })
    .await;
    taken.sort();
    println!("from the rename to the swap: median {:?}", taken[7]);
    assert!(taken[7] < Duration::from_millis(50), "ten times the goal: {taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_fails_its_trial_is_not_tried_again() {
    use rustls::CipherSuite::{TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256};
    // Checked by itself, an ECDSA certificate is fit; with these cipher suites no TLS 1.2 client
    // could connect to it.
    let mut narrow = rustls::crypto::aws_lc_rs::default_provider();
    narrow.cipher_suites.retain(|suite| {
        [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256].contains(&suite.suite())
    });
    let scene = Scene::new();
    scene.put(Source::Pki, &scene.forge(|o| o.key = LeafKey::Rsa2048));
    let (mut rotation, served) =
        Rotation::start(scene.params(), scene.clock.clone(), Arc::new(narrow));
    let before = thumbprint(&served);
    assert_eq!(outcome(&served).0, Why::PkiFit);
    State::Fit.bring_about(&scene, Source::Pki);
    for _ in 0..3 {
        settle(&mut rotation).await;
        assert_eq!((outcome(&served).0, thumbprint(&served)), (Why::PkiKept, before.clone()));
        assert_eq!(rotation.failed.len(), 1);
    }
    assert_eq!(scene.rejections(), [(Source::Pki, Unfit::HandshakeFailed)]);
    scene.put(Source::Pki, &scene.forge(|o| o.key = LeafKey::Rsa2048));
    settle(&mut rotation).await;
    assert_eq!((outcome(&served).0, rotation.failed.len()), (Why::PkiFit, 0));
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_comes_into_being_is_found() {
    let scene = Scene::new();
    fs::remove_dir_all(scene.folder(Source::Pki)).unwrap();
    State::Fit.bring_about(&scene, Source::SiteIssued);
    let (mut rotation, served) = scene.start();
    assert_eq!(outcome(&served).0, Why::SiteIssuedNoPki);
    fs::create_dir(scene.folder(Source::Pki)).unwrap();
    State::Fit.bring_about(&scene, Source::Pki);
    rotation.evaluate();
    assert_eq!(outcome(&served).0, Why::PkiFit);
}

#[tokio::test(start_paused = true)]
async fn a_status_only_change_keeps_the_tls_configuration() {
    let scene = Scene::new();
    State::Fit.bring_about(&scene, Source::Pki);
    let (mut rotation, served) = scene.start();
    let before = served.load();
    State::Expired.bring_about(&scene, Source::SiteIssued);
    rotation.evaluate();
    let after = served.load();
    assert_ne!(before.selection.rejected, after.selection.rejected);
    assert!(Arc::ptr_eq(before.config.as_ref().unwrap(), after.config.as_ref().unwrap()));
    assert_eq!((after.swaps, after.since), (before.swaps, before.since));
    let generation = served.generation();
    rotation.evaluate();
    assert_eq!(served.generation(), generation, "nothing new, nothing published");
}

#[tokio::test(start_paused = true)]
async fn a_nudge_makes_it_look_at_once_and_a_stop_ends_it() {
    let scene = Scene::new();
    let (rotation, served) = scene.start();
    let nudge = rotation.nudge();
    beside(rotation, async {
        State::Fit.bring_about(&scene, Source::Pki);
        nudge.now();
        until(|| outcome(&served).0 == Why::PkiFit).await;
    })
    .await;
}

fn put_pfx(scene: &Scene, name: &str, forged: &Forged, password: &str) {
    let chain = format!("{}{}", forged.chain, scene.pki.root());
    let der = pfx((&chain, &forged.key), password, Protection::Modern, 4).unwrap();
    let folder = scene.folder(Source::Pki);
    let next = folder.join(".next");
    fs::write(&next, der).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(next, folder.join(name)).unwrap();
}

/// Issued that many hours before now, so that one is newer than the other.
fn issued(scene: &Scene, hours: i64) -> Forged {
    scene.forge(|order| order.from = second(NOW - hours * 3600))
}

fn sha256(forged: &Forged) -> String {
    let key = Some(forged.key.as_bytes());
    let parsed = Credential::parse(forged.leaf.as_bytes(), key, Source::Pki, &provider());
    parsed.unwrap().facts().sha256.clone()
}

#[tokio::test(start_paused = true)]
async fn a_newer_pfx_or_pair_replaces_the_older_one() {
    let scene = Scene::new();
    let (first, second, third) = (issued(&scene, 9), issued(&scene, 8), issued(&scene, 7));
    put_pfx(&scene, "mp01.pfx", &first, "");
    let (mut rotation, served) = scene.start();
    assert_eq!(outcome(&served), (Why::PkiFit, Some(Source::Pki)), "its own root is the anchor");
    assert_eq!(thumbprint(&served), Some(sha256(&first)));
    put_pfx(&scene, "mp01.pfx", &second, "");
    rotation.evaluate();
    assert_eq!(thumbprint(&served), Some(sha256(&second)));
    scene.put(Source::Pki, &third);
    rotation.evaluate();
    assert_eq!(thumbprint(&served), Some(sha256(&third)), "the newer one wins");
    let rejected = served.load().selection.rejected.clone();
    let older: Vec<_> = rejected.iter().filter(|r| r.source == Source::Pki).collect();
    assert_eq!(older.len(), 1);
    assert_eq!((older[0].fault.unfit, &*older[0].fault.detail), (Unfit::Superseded, "mp01.pfx"));
    put_pfx(&scene, "next.pfx", &issued(&scene, 6), "");
    rotation.evaluate();
    assert_ne!(thumbprint(&served), Some(sha256(&third)), "a newer PFX wins over a pair");
    assert_eq!(scene.rejections(), [], "and nobody is blamed");
}

#[tokio::test(start_paused = true)]
async fn a_future_pfx_goes_live_when_its_validity_begins() {
    let scene = Scene::new();
    let today = issued(&scene, 9);
    let tomorrow = scene.forge(|order| {
        (order.from, order.until) = (second(NOW + DAY), second(NOW + 90 * DAY));
    });
    put_pfx(&scene, "a.pfx", &tomorrow, "");
    put_pfx(&scene, "b.pfx", &today, "");
    let (mut rotation, served) = scene.start();
    assert_eq!(thumbprint(&served), Some(sha256(&today)));
    assert_eq!(served.load().selection.next_change, Some(second(NOW + DAY)));
    scene.hands.set(second(NOW + DAY));
    rotation.evaluate();
    assert_eq!(thumbprint(&served), Some(sha256(&tomorrow)));
}

#[tokio::test(start_paused = true)]
async fn a_pfx_that_does_not_open_displaces_nothing() {
    let scene = Scene::new();
    let good = issued(&scene, 9);
    put_pfx(&scene, "mp01.pfx", &good, "");
    let (mut rotation, served) = scene.start();
    put_pfx(&scene, "mp01.pfx", &issued(&scene, 8), "another password");
    settle(&mut rotation).await;
    assert_eq!((outcome(&served).0, thumbprint(&served)), (Why::PkiKept, Some(sha256(&good))));
    assert_eq!(scene.rejections(), [(Source::Pki, Unfit::PasswordWrong)]);
}

fn put_response(scene: &Scene, forged: &Forged, revoked: bool, until: i64) {
    let between = (second(NOW - 60), second(until));
    let der = scene.pki.ocsp(forged, revoked, between).unwrap();
    let next = scene.folder(Source::Pki).join(".next");
    fs::write(&next, der).unwrap();
    fs::rename(next, scene.folder(Source::Pki).join("tls.ocsp")).unwrap();
}

fn stapled(served: &Live<Served>) -> Option<Timestamp> {
    served.peek(|served| served.staple.as_ref().map(|staple| staple.next_update))
}

#[tokio::test(start_paused = true)]
async fn an_ocsp_response_is_stapled_only_while_it_is_valid() {
    let scene = Scene::new();
    let forged = issued(&scene, 9);
    scene.put(Source::Pki, &forged);
    put_response(&scene, &forged, false, NOW + 3600);
    let (mut rotation, served) = scene.start();
    assert_eq!(stapled(&served), Some(second(NOW + 3600)));
    assert_eq!(served.load().selection.next_change, Some(second(NOW + 3600)));
    put_response(&scene, &forged, false, NOW + 7200);
    rotation.evaluate();
    assert_eq!(stapled(&served), Some(second(NOW + 7200)), "the newer one, without a swap");
    assert_eq!(served.load().swaps, 1);
    scene.hands.set(second(NOW + 7199));
    rotation.evaluate();
    assert!(stapled(&served).is_some());
    scene.hands.set(second(NOW + 7200));
    rotation.evaluate();
    assert_eq!(stapled(&served), None);
    let now = served.load();
    assert_eq!((now.selection.why, now.warnings.len(), now.swaps), (Why::PkiFit, 1, 1));
    assert_eq!(now.warnings[0].1.code(), "certificate.unstapled");
}

#[tokio::test(start_paused = true)]
async fn a_response_of_no_use_harms_nothing_and_a_revocation_does() {
    let scene = Scene::new();
    let (forged, other) = (issued(&scene, 9), issued(&scene, 8));
    scene.put(Source::Pki, &forged);
    let (mut rotation, served) = scene.start();
    for spoil in [
        (|scene, other, _| put_response(scene, other, false, NOW + 60))
            as fn(&Scene, &Forged, &Path),
        |scene, _, _| put(&scene.folder(Source::Pki), "tls.ocsp", "garbage"),
        |_, _, path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ] {
        let path = scene.folder(Source::Pki).join("tls.ocsp");
        spoil(&scene, &other, &path);
        rotation.evaluate();
        assert_eq!((outcome(&served).0, stapled(&served)), (Why::PkiFit, None));
        assert_eq!(served.load().warnings.len(), 1);
    }
    fs::remove_dir(scene.folder(Source::Pki).join("tls.ocsp")).unwrap();
    scene.put(Source::SiteIssued, &issued(&scene, 9));
    put_response(&scene, &forged, true, NOW + 60);
    rotation.evaluate();
    assert_eq!(outcome(&served), (Why::SiteIssuedPkiUnfit, Some(Source::SiteIssued)));
    assert_eq!(scene.rejections(), [(Source::Pki, Unfit::Revoked)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_does_not_go_on_for_want_of_something_better() {
    let scene = Scene::new();
    let forged = issued(&scene, 9);
    scene.put(Source::Pki, &forged);
    let (mut rotation, served) = scene.start();
    put_response(&scene, &forged, true, NOW + 60);
    settle(&mut rotation).await;
    assert_eq!(outcome(&served), (Why::NothingFit, None));
}
