//! Rollovers on disk: which key signs, which are trusted, and the state after a crash.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rstest::rstest;
use rustls_pki_types::ServerName;

use super::*;
use crate::cert::issuer::{CertAlgorithm, Scope};
use crate::site::{AuthorityParams, Issued, SiteTokens, Stage};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Scene { dir: tempfile::tempdir().unwrap() };
        scene.leaf(&scene.authority(), NOW);
        scene.tokens();
        crate::site::bundle_keys(scene.dir.path(), second(NOW)).unwrap();
        scene
    }

    /// A scene with a copy of some of another's files.
    fn of(other: &Scene, keep: impl Fn(&str) -> bool) -> Self {
        let scene = Scene { dir: tempfile::tempdir().unwrap() };
        for file in other.files() {
            if keep(&file) {
                let to = scene.dir.path().join(&file);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(other.dir.path().join(&file), to).unwrap();
            }
        }
        scene
    }

    fn files(&self) -> BTreeSet<String> {
        fn walk(dir: PathBuf, base: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(path, base, found);
                } else {
                    let name = path.strip_prefix(base).unwrap().to_str().unwrap();
                    found.insert(name.to_owned());
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(self.dir.path().to_owned(), self.dir.path(), &mut found);
        found
    }

    fn authority(&self) -> Arc<Authority> {
        let params = AuthorityParams {
            site_code: "PS1".to_owned(),
            scope: Scope::new(&["contoso.com"]).unwrap(),
            algorithm: CertAlgorithm::P256,
            crl_url: None,
            whole_chains: Default::default(),
            roots: Vec::new(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Arc::new(Authority::new(self.dir.path(), params, provider))
    }

    fn leaf(&self, authority: &Authority, now: i64) -> Issued {
        let host = ServerName::try_from("mp01.contoso.com").unwrap();
        authority.ensure_leaf("mp01", &[host], second(now)).unwrap()
    }

    fn tokens(&self) -> SiteTokens {
        let kind = SignerKind::P256;
        SiteTokens::open(self.dir.path(), "PS1", kind, None, "https://x/", second(NOW)).unwrap()
    }

    fn rollover(&self) -> Rollover {
        Rollover::new(self.dir.path(), "PS1", SignerKind::P256, Some(self.authority()))
    }

    fn step(&self, thing: Thing, step: RolloverStep, now: i64) -> Result<Ring, RolloverError> {
        let terms = Terms { clients_have_it: true, tokens_end_now: true, ..Terms::default() };
        self.rollover().step(thing, step, &terms, second(now))
    }

    fn stage(&self, thing: Thing) -> Stage {
        let progress = self.rollover().progress(thing, &Terms::default(), second(NOW)).unwrap();
        progress.ring.stage()
    }
}

fn roots(authority: &Authority) -> usize {
    authority.root_pem().unwrap().matches("BEGIN CERTIFICATE").count()
}

fn kids(jwks: &str) -> Vec<String> {
    let jwks: serde_json::Value = serde_json::from_str(jwks).unwrap();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_root_rollover_includes_the_role_authority() {
    let scene = Scene::new();
    let running = scene.authority();
    let before = scene.leaf(&running, NOW);
    scene.step(Thing::Root, RolloverStep::Publish, NOW).unwrap();
    let published = scene.leaf(&running, NOW);
    assert_eq!(published.credential, before.credential, "nothing new is served yet");
    assert_eq!(roots(&running), 2);
    scene.step(Thing::Root, RolloverStep::Switch, NOW).unwrap();
    let refused = scene.step(Thing::Root, RolloverStep::Retire, NOW).unwrap_err();
    assert!(refused.to_string().contains("leaf/mp01.crt"), "{refused}");
    let switched = scene.leaf(&running, NOW);
    assert_ne!(switched.credential, before.credential);
    assert_ne!(switched.credential.issuers()[0].issuer, before.credential.issuers()[0].issuer);
    assert_eq!((roots(&running), scene.stage(Thing::Intermediate)), (2, Stage::Switched));
    scene.step(Thing::Root, RolloverStep::Retire, NOW).unwrap();
    let retired = scene.leaf(&running, NOW);
    assert_eq!(retired.credential, switched.credential);
    assert_eq!((roots(&running), scene.stage(Thing::Intermediate)), (1, Stage::Steady));
    let keys =
        scene.files().into_iter().filter(|file| file.contains("ro") && file.ends_with("key"));
    assert_eq!(keys.collect::<Vec<_>>(), ["authority/role-2.key", "authority/root-2.key"]);
    assert_eq!(scene.leaf(&scene.authority(), NOW + DAY).credential, switched.credential);
}

#[test]
fn a_role_authority_is_rolled_over_below_the_root_that_stays() {
    let scene = Scene::new();
    let running = scene.authority();
    let before = scene.leaf(&running, NOW);
    scene.step(Thing::Intermediate, RolloverStep::Publish, NOW).unwrap();
    assert_eq!(scene.leaf(&running, NOW).credential, before.credential);
    scene.step(Thing::Intermediate, RolloverStep::Switch, NOW).unwrap();
    assert!(scene.step(Thing::Intermediate, RolloverStep::Retire, NOW).is_err());
    let switched = scene.leaf(&running, NOW);
    let role = |issued: &Issued| issued.credential.issuers()[0].sha256.clone();
    assert_ne!(role(&switched), role(&before));
    assert_eq!(switched.anchors, before.anchors);
    scene.step(Thing::Intermediate, RolloverStep::Retire, NOW).unwrap();
    assert_eq!(scene.leaf(&running, NOW).credential, switched.credential);
    let list = fs::read(scene.dir.path().join("authority/crl/root.crl")).unwrap();
    let root = running.signer(Thing::Root, 1).unwrap();
    assert_eq!(root.own_crl(&list).unwrap().serials.len(), 1, "a copy of its key is worthless");
}

#[rstest]
#[case(Thing::TokenKey)]
#[case(Thing::BundleKey)]
fn a_key_is_published_before_it_signs_and_after(#[case] thing: Thing) {
    let scene = Scene::new();
    let running = scene.tokens();
    let read = || match thing {
        Thing::TokenKey => {
            running.follow().unwrap();
            kids(&running.jwks())
        }
        _ => kids(&crate::site::bundle_keys(scene.dir.path(), second(NOW)).unwrap().jwks()),
    };
    let first = read();
    assert_eq!(first.len(), 1);
    scene.step(thing, RolloverStep::Publish, NOW).unwrap();
    let published = read();
    assert_eq!((published.len(), &published[0]), (2, &first[0]));
    scene.step(thing, RolloverStep::Switch, NOW + 300).unwrap();
    let switched = read();
    assert_eq!(switched, [published[1].clone(), published[0].clone()]);
    scene.step(thing, RolloverStep::Retire, NOW + 300).unwrap();
    assert_eq!(read(), [published[1].clone()]);
    let keys = scene.files().into_iter().filter(|f| f.contains(thing.base()) && f.ends_with("key"));
    assert_eq!(keys.count(), 1);
}

#[test]
fn a_published_token_key_of_another_kind_is_the_configurations() {
    let scene = Scene::new();
    let rollover =
        Rollover::new(scene.dir.path(), "PS1", SignerKind::Rsa2048, Some(scene.authority()));
    rollover.step(Thing::TokenKey, RolloverStep::Publish, &Terms::default(), second(NOW)).unwrap();
    let jwks = scene.tokens().jwks();
    assert!(jwks.contains("ES256") && jwks.contains("RS256"), "{jwks}");
}

/// The files that a step writes, in order, before it commits.
#[rstest]
#[case(Thing::Root, RolloverStep::Publish, &["root-2.key", "root-2.crt"])]
#[case(Thing::Root, RolloverStep::Switch, &["role-2.key", "role-2.crt"])]
#[case(Thing::Intermediate, RolloverStep::Publish, &["role-2.key", "role-2.crt"])]
#[case(Thing::TokenKey, RolloverStep::Publish, &["token-2.key", "token-2.crt"])]
#[case(Thing::BundleKey, RolloverStep::Publish, &["bundle-2.key"])]
fn a_step_cut_short_before_its_commit_is_repeated(
    #[case] thing: Thing,
    #[case] step: RolloverStep,
    #[case] writes: &[&str],
) {
    let before = Scene::new();
    if step == RolloverStep::Switch {
        before.step(thing, RolloverStep::Publish, NOW).unwrap();
    }
    let whole = Scene::of(&before, |_| true);
    whole.step(thing, step, NOW + 300).unwrap();
    for written in 0..=writes.len() {
        let cut = Scene::of(&before, |_| true);
        for name in &writes[..written] {
            let name = format!("{}/{name}", thing.folder());
            fs::copy(whole.dir.path().join(&name), cut.dir.path().join(&name)).unwrap();
        }
        assert_eq!(cut.stage(thing), before.stage(thing), "{written} written");
        goes_on(&before, &cut);
        cut.step(thing, step, NOW + 300).unwrap();
        assert_eq!(cut.stage(thing), whole.stage(thing));
        finish(&cut, thing);
    }
}

#[rstest]
#[case(Thing::Root, &["root.key", "root.crt", "role.key", "role.crt"])]
#[case(Thing::Intermediate, &["role.key", "role.crt"])]
#[case(Thing::TokenKey, &["token.key", "token.crt"])]
#[case(Thing::BundleKey, &["bundle.key"])]
fn a_retirement_cut_short_is_finished_by_the_next_step(
    #[case] thing: Thing,
    #[case] removes: &[&str],
) {
    let before = Scene::new();
    before.step(thing, RolloverStep::Publish, NOW).unwrap();
    before.step(thing, RolloverStep::Switch, NOW + 300).unwrap();
    before.leaf(&before.authority(), NOW + 300);
    let whole = Scene::of(&before, |_| true);
    whole.step(thing, RolloverStep::Retire, NOW + 300).unwrap();
    for removed in 0..=removes.len() {
        let cut = Scene::of(&whole, |_| true);
        for name in &removes[removed..] {
            let name = format!("{}/{name}", thing.folder());
            fs::copy(before.dir.path().join(&name), cut.dir.path().join(&name)).unwrap();
        }
        assert_eq!(cut.stage(thing), Stage::Steady, "{removed} removed");
        goes_on(&whole, &cut);
        cut.step(thing, RolloverStep::Publish, NOW + 600).unwrap();
        for name in removes {
            let path = cut.dir.path().join(thing.folder()).join(name);
            assert!(!path.exists(), "{}", path.display());
        }
    }
}

/// Checks that both serve the same certificate and sign with the same key.
fn goes_on(one: &Scene, other: &Scene) {
    let leaf = |scene: &Scene| scene.leaf(&scene.authority(), NOW + 300).credential;
    assert_eq!(leaf(one), leaf(other));
    assert_eq!(kids(&one.tokens().jwks()), kids(&other.tokens().jwks()));
}

/// Completes the rollover.
fn finish(scene: &Scene, thing: Thing) {
    if scene.stage(thing) == Stage::Published {
        scene.step(thing, RolloverStep::Switch, NOW + 600).unwrap();
    }
    scene.leaf(&scene.authority(), NOW + 600);
    scene.step(thing, RolloverStep::Retire, NOW + 600).unwrap();
    scene.leaf(&scene.authority(), NOW + 600);
    assert_eq!(scene.stage(thing), Stage::Steady);
}

#[rstest]
#[case(Thing::Root)]
#[case(Thing::TokenKey)]
fn a_file_that_decides_and_was_lost_makes_nothing_new(#[case] thing: Thing) {
    let scene = Scene::new();
    scene.step(thing, RolloverStep::Publish, NOW).unwrap();
    scene.step(thing, RolloverStep::Switch, NOW + 300).unwrap();
    scene.leaf(&scene.authority(), NOW + 300);
    scene.step(thing, RolloverStep::Retire, NOW + 300).unwrap();
    fs::remove_file(scene.dir.path().join(thing.folder()).join("rollover/state.json")).unwrap();
    let told = match thing {
        Thing::TokenKey => {
            let kind = SignerKind::P256;
            let opened = SiteTokens::open(scene.dir.path(), "PS1", kind, None, "x", second(NOW));
            opened.err().unwrap().to_string()
        }
        _ => {
            let host = ServerName::try_from("mp01.contoso.com").unwrap();
            let issued = scene.authority().ensure_leaf("mp01", &[host], second(NOW + 300));
            issued.unwrap_err().to_string()
        }
    };
    assert!(told.contains("state.json") && told.contains("restore"), "{told}");
}

#[test]
fn of_two_steps_at_once_one_is_taken() {
    let scene = Scene::new();
    let taken = std::thread::scope(|scope| {
        let steps: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| scene.step(Thing::TokenKey, RolloverStep::Publish, NOW).is_ok())
            })
            .collect();
        steps.into_iter().map(|step| step.join().unwrap()).filter(|taken| *taken).count()
    });
    assert_eq!((taken, kids(&scene.tokens().jwks()).len()), (1, 2));
}

#[test]
fn a_running_authority_survives_a_broken_rollover_state() {
    let scene = Scene::new();
    let running = scene.authority();
    let before = scene.leaf(&running, NOW);
    scene.step(Thing::Root, RolloverStep::Publish, NOW).unwrap();
    let path = scene.dir.path().join("authority/rollover/state.json");
    fs::write(&path, "{").unwrap();
    assert_eq!(scene.leaf(&running, NOW).credential, before.credential);
    assert!(scene.step(Thing::Root, RolloverStep::Switch, NOW).is_err());
}

#[test]
fn new_private_keys_are_their_owners_alone() {
    let scene = Scene::new();
    for thing in Thing::ALL.iter().copied() {
        if thing != Thing::Intermediate {
            scene.step(thing, RolloverStep::Publish, NOW).unwrap();
        }
    }
    for file in scene.files().into_iter().filter(|file| file.ends_with(".key")) {
        let mode = fs::metadata(scene.dir.path().join(&file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_read_that_races_a_rollover_step_is_retried() {
    let scene = Scene::new();
    let authority = scene.authority();
    scene.leaf(&authority, NOW);
    let asked = std::cell::Cell::new(0);
    let read = authority.by_the_journal(|journal| {
        asked.set(asked.get() + 1);
        if asked.get() == 1 {
            scene.step(Thing::Root, RolloverStep::Publish, NOW).unwrap();
            return Err(crate::unfit::Unfit::NotIssued.into());
        }
        Ok(journal.ring(Thing::Root).stage())
    });
    assert_eq!((read.unwrap(), asked.get()), (Stage::Published, 2));
    // If the journal has not changed, a missing file is an error.
    let missing = authority.by_the_journal(|_| Err::<(), _>(crate::unfit::Unfit::NotIssued.into()));
    assert!(missing.is_err());
}
