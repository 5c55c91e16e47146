//! The authority across restarts, crashes, clock changes and broken files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rstest::rstest;

use crate::cert::issuer::RevocationReason;
use crate::clock::second;
use crate::unfit::Unfit;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn authority(state: &Path) -> Authority {
    let params = AuthorityParams {
        site_code: "PS1".to_owned(),
        scope: Scope::new(&["contoso.com"]).unwrap(),
        algorithm: CertAlgorithm::P256,
        whole_chains: Default::default(),
        roots: Vec::new(),
        crl_url: None,
    };
    Authority::new(state, params, Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

fn hosts(names: &[&str]) -> Vec<ServerName<'static>> {
    names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect()
}

fn leaf(authority: &Authority, now: i64) -> Result<Issued, CredentialFault> {
    authority.ensure_leaf("mp01", &hosts(&["mp01.contoso.com"]), second(now))
}

fn thumbprint(issued: Result<Issued, CredentialFault>) -> String {
    issued.unwrap().credential.facts().sha256.clone()
}

fn file(state: &Path, name: &str) -> PathBuf {
    state.join("authority").join(name)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_start_creates_the_authority_and_the_next_reuses_it() {
    let state = tempfile::tempdir().unwrap();
    let first = thumbprint(leaf(&authority(state.path()), NOW));
    let root = authority(state.path()).root_pem().unwrap();
    assert_eq!(thumbprint(leaf(&authority(state.path()), NOW + DAY)), first);
    assert_eq!(authority(state.path()).root_pem().unwrap(), root);
    for dir in ["", "leaf"] {
        assert_eq!(mode(&file(state.path(), dir)), 0o700);
    }
    for key in ["root.key", "role.key", "leaf/mp01.key"] {
        assert_eq!(mode(&file(state.path(), key)), 0o600, "{key}");
    }
}

#[test]
fn a_leaf_is_renewed_at_two_thirds_of_its_lifetime() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority(state.path());
    let first = thumbprint(leaf(&authority, NOW));
    assert_eq!(thumbprint(leaf(&authority, NOW + 59 * DAY)), first);
    let renewed = thumbprint(leaf(&authority, NOW + 60 * DAY));
    assert_ne!(renewed, first);
    let more = hosts(&["mp01.contoso.com", "dp01.contoso.com"]);
    let for_more = authority.ensure_leaf("mp01", &more, second(NOW + 60 * DAY));
    assert_ne!(thumbprint(for_more), renewed);
    let fewer = leaf(&authority, NOW + 60 * DAY).unwrap();
    assert_eq!(fewer.credential.facts().dns, ["mp01.contoso.com"]);
}

#[test]
fn leaves_stay_fit_for_ten_years_across_role_renewals() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority(state.path());
    let root = authority.ensure_leaf("mp01", &hosts(&["mp01.contoso.com"]), second(NOW)).unwrap();
    for month in 0..118 {
        let issued = leaf(&authority, NOW + month * 30 * DAY).unwrap();
        assert_eq!(issued.anchors, root.anchors);
    }
}

#[test]
fn a_host_outside_the_scope_of_the_root_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let issued =
        authority(state.path()).ensure_leaf("x", &hosts(&["mp01.fabrikam.com"]), second(NOW));
    assert_eq!(issued.err().map(|fault| fault.unfit), Some(Unfit::OutsideRoot));
}

/// A crash may leave any prefix of the files that a first start writes, in the order of writing.
#[rstest]
#[case(&[])]
#[case(&["root.key"])]
#[case(&["root.key", "root.crt"])]
#[case(&["root.key", "root.crt", "role.key"])]
#[case(&["root.key", "root.crt", "role.key", "role.crt"])]
#[case(&["root.key", "root.crt", "role.key", "role.crt", "leaf/mp01.key"])]
fn a_first_start_cut_short_at_any_moment_is_completed(#[case] written: &[&str]) {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    leaf(&authority(whole.path()), NOW).unwrap();
    fs::create_dir_all(file(cut.path(), "leaf")).unwrap();
    for name in written {
        fs::copy(file(whole.path(), name), file(cut.path(), name)).unwrap();
    }
    leaf(&authority(cut.path()), NOW).unwrap();
    for name in written.iter().filter(|name| name.starts_with("root")) {
        let (before, after) = (file(whole.path(), name), file(cut.path(), name));
        assert_eq!(fs::read(before).unwrap(), fs::read(after).unwrap(), "{name}");
    }
}

#[rstest]
#[case::no_key("root.key", None)]
#[case::broken_key("root.key", Some("garbage"))]
#[case::broken_certificate("root.crt", Some("garbage"))]
#[case::empty_certificate("root.crt", Some(""))]
#[case::no_text("root.crt", Some("\u{0}\u{1}"))]
fn a_damaged_root_is_reported_and_never_replaced(#[case] name: &str, #[case] damage: Option<&str>) {
    let state = tempfile::tempdir().unwrap();
    leaf(&authority(state.path()), NOW).unwrap();
    let path = file(state.path(), name);
    let good = fs::read(&path).unwrap();
    match damage {
        Some(text) => fs::write(&path, text).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
    let authority = authority(state.path());
    let fault = leaf(&authority, NOW).unwrap_err();
    assert_eq!(fault.unfit, Unfit::NotIssued);
    assert!(fault.detail.contains("root."), "{fault}");
    assert_eq!(fs::read_to_string(&path).ok().as_deref(), damage);
    fs::write(&path, good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    leaf(&authority, NOW).expect("what is mended on disk needs no restart");
}

#[rstest]
#[case::role_certificate("role.crt")]
#[case::role_key("role.key")]
#[case::leaf_certificate("leaf/mp01.crt")]
#[case::leaf_key("leaf/mp01.key")]
fn what_hangs_from_the_root_is_made_again(#[case] name: &str) {
    let state = tempfile::tempdir().unwrap();
    leaf(&authority(state.path()), NOW).unwrap();
    fs::write(file(state.path(), name), "garbage").unwrap();
    leaf(&authority(state.path()), NOW).unwrap();
    assert_ne!(fs::read(file(state.path(), name)).unwrap(), b"garbage");
}

#[test]
fn a_root_key_that_everyone_can_read_is_refused() {
    let state = tempfile::tempdir().unwrap();
    leaf(&authority(state.path()), NOW).unwrap();
    let key = file(state.path(), "root.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let fault = leaf(&authority(state.path()), NOW).unwrap_err();
    assert!(fault.detail.contains("chmod 600"), "{fault}");
}

#[test]
fn nothing_is_issued_while_the_clock_is_not_set() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority(state.path());
    assert_eq!(leaf(&authority, 0).err().map(|fault| fault.unfit), Some(Unfit::NotIssued));
    assert!(!file(state.path(), "root.crt").exists());
    leaf(&authority, NOW).unwrap();
}

#[test]
fn a_disk_that_takes_nothing_stops_no_leaf_once_there_is_a_root() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority(state.path());
    leaf(&authority, NOW).unwrap();
    fs::remove_dir_all(file(state.path(), "leaf")).unwrap();
    fs::write(file(state.path(), "leaf"), "in the way").unwrap();
    let more = authority.ensure_leaf("dp01", &hosts(&["dp01.contoso.com"]), second(NOW)).unwrap();
    assert_eq!(more.credential.facts().dns, ["dp01.contoso.com"]);
}

#[test]
fn starts_at_the_same_moment_make_one_root() {
    let state = tempfile::tempdir().unwrap();
    let anchors: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| leaf(&authority(state.path()), NOW))).collect();
        starts.into_iter().map(|start| start.join().unwrap().unwrap().anchors).collect()
    });
    assert!(anchors.iter().all(|other| *other == anchors[0]));
}

#[test]
fn the_overview_makes_nothing_and_lists_what_is_there() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority(state.path());
    assert!(authority.overview(second(NOW)).is_err());
    assert!(!file(state.path(), "").exists());
    leaf(&authority, NOW).unwrap();
    let overview = authority.overview(second(NOW)).unwrap();
    assert!(overview[0].facts.subject.contains("SMS Issuing"));
    assert!(overview[1].facts.subject.contains("SMS Role Signing"));
    assert_eq!(overview[2].name, "mp01");
    assert!(overview.iter().all(|shown| shown.state == ShownState::InForce));
}

#[test]
fn a_name_that_escapes_the_folder_is_not_written() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority(state.path());
    authority.ensure_leaf("../../x", &hosts(&["mp01.contoso.com"]), second(NOW)).unwrap();
    assert!(!state.path().join("x.crt").exists());
    assert_eq!(fs::read_dir(file(state.path(), "leaf")).unwrap().count(), 0);
}

fn list(state: &Path, name: &str) -> crate::cert::issuer::CrlOutline {
    let authority = authority(state);
    let der = fs::read(file(state, &format!("crl/{name}.crl"))).unwrap();
    let thing = if name == "root" { Thing::Root } else { Thing::Intermediate };
    authority.signer(thing, 1).unwrap().own_crl(&der).unwrap()
}

#[test]
fn a_blocked_leaf_is_revoked_at_once_and_replaced() {
    let state = tempfile::tempdir().unwrap();
    let running = authority(state.path());
    let before = leaf(&running, NOW).unwrap();
    assert_eq!(list(state.path(), "role").serials.len(), 0);
    let reason = RevocationReason::KeyCompromise;
    let sha1 = before.credential.facts().sha1.clone();
    let blocked = authority(state.path()).block(&sha1, reason, second(NOW + 1)).unwrap();
    assert_eq!((blocked.name.as_str(), blocked.issuer.as_str()), ("mp01", "role"));
    let after_block = list(state.path(), "role");
    assert_eq!(after_block.serials.len(), 1);
    let after = leaf(&running, NOW + 2).unwrap();
    assert!(running.is_blocked(before.credential.facts()));
    assert!(!running.is_blocked(after.credential.facts()));
    let key = |issued: &Issued| issued.credential.chain()[0].clone();
    assert_ne!(key(&before), key(&after));
    assert_eq!(
        thumbprint(leaf(&authority(state.path()), NOW + 3)),
        after.credential.facts().sha256
    );
    let overview = running.overview(second(NOW)).unwrap();
    let states: Vec<_> = overview.iter().map(|shown| shown.state).collect();
    use ShownState::{Blocked, InForce};
    assert_eq!(states, [InForce, InForce, InForce, Blocked]);
    let again = authority(state.path()).block(&sha1, reason, second(NOW));
    assert!(matches!(again, Err(BlockError::Already(_))));
}

#[test]
fn an_earlier_leaf_can_be_blocked_while_it_is_valid() {
    let state = tempfile::tempdir().unwrap();
    let running = authority(state.path());
    let earlier = thumbprint(leaf(&running, NOW));
    let renewed = thumbprint(leaf(&running, NOW + 60 * DAY));
    let reason = RevocationReason::KeyCompromise;
    running.block(&earlier, reason, second(NOW + 61 * DAY)).unwrap();
    assert_eq!(thumbprint(leaf(&running, NOW + 61 * DAY)), renewed, "nothing else changes");
    assert_eq!(list(state.path(), "role").serials.len(), 1);
    leaf(&running, NOW + 200 * DAY).unwrap();
    let gone = running.block(&earlier, reason, second(NOW + 200 * DAY));
    assert!(matches!(gone, Err(BlockError::Unknown(_))), "{gone:?}");
    assert_eq!(list(state.path(), "role").serials.len(), 0);
}

#[test]
fn what_is_blocked_is_in_force_and_no_root() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority(state.path());
    leaf(&authority, NOW).unwrap();
    let reason = RevocationReason::Unspecified;
    let root = authority.overview(second(NOW)).unwrap()[0].facts.sha256.clone();
    assert!(matches!(authority.block(&root, reason, second(NOW)), Err(BlockError::Root)));
    let nobody = authority.block("mp02", reason, second(NOW));
    assert!(matches!(nobody, Err(BlockError::Unknown(_))));
    authority.block("mp01", reason, second(NOW)).unwrap();
    let twice = authority.block("mp01", reason, second(NOW));
    assert!(matches!(twice, Err(BlockError::Already(_))));
}

#[test]
fn a_blocked_role_authority_is_made_anew_and_its_leaves_with_it() {
    let state = tempfile::tempdir().unwrap();
    let running = authority(state.path());
    let before = leaf(&running, NOW).unwrap();
    let role = before.credential.issuers()[0].sha256.clone();
    running.block(&role, RevocationReason::KeyCompromise, second(NOW)).unwrap();
    assert_eq!(list(state.path(), "root").serials.len(), 1);
    let after = leaf(&running, NOW).unwrap();
    assert_ne!(after.credential.issuers()[0].sha256, role);
    assert_eq!(after.anchors, before.anchors);
}

#[test]
fn lists_are_made_anew_each_day_and_their_numbers_only_grow() {
    let state = tempfile::tempdir().unwrap();
    let running = authority(state.path());
    leaf(&running, NOW).unwrap();
    let first = list(state.path(), "root");
    leaf(&running, NOW + DAY - 3_600).unwrap();
    assert_eq!(list(state.path(), "root"), first);
    leaf(&running, NOW + DAY).unwrap();
    let second_day = list(state.path(), "root");
    assert!(second_day.number > first.number && second_day.this_update > first.this_update);
    leaf(&running, NOW + 600).unwrap();
    let clock_set_back = list(state.path(), "root");
    assert!(clock_set_back.number > second_day.number, "{clock_set_back:?}");
}
