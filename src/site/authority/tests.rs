//! The authority across starts, crashes, clocks and broken files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rstest::rstest;

use crate::clock::second;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn authority(state: &Path) -> Authority {
    let params = AuthorityParams {
        site_code: "PS1".to_owned(),
        scope: Scope::new(&["contoso.com"]).unwrap(),
        algorithm: Algorithm::P256,
        whole_chains: Default::default(),
    };
    Authority::new(state, params, Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

fn hosts(names: &[&str]) -> Vec<ServerName<'static>> {
    names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect()
}

fn leaf(authority: &Authority, now: i64) -> Result<Issued, Fault> {
    authority.ensure_leaf("mp01", &hosts(&["mp01.contoso.com"]), second(now))
}

fn thumbprint(issued: Result<Issued, Fault>) -> String {
    issued.unwrap().credential.facts().sha256.clone()
}

fn file(state: &Path, name: &str) -> PathBuf {
    state.join("authority").join(name)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_start_makes_root_role_and_leaf_and_the_next_takes_them_up() {
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
fn a_leaf_is_renewed_at_two_thirds_of_its_life_and_for_other_hosts() {
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
fn the_role_authority_is_renewed_too_and_leaves_stay_fit_for_ten_years() {
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
    assert_eq!(issued.err().map(|fault| fault.unfit), Some(Unfit::Constrained));
}

/// A crash may leave any prefix of the files that a first start writes, in the order it writes.
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
fn a_damaged_root_is_told_and_never_replaced(#[case] name: &str, #[case] damage: Option<&str>) {
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
    assert!(authority.overview().is_err());
    assert!(!file(state.path(), "").exists());
    leaf(&authority, NOW).unwrap();
    let overview = authority.overview().unwrap();
    assert!(overview.root.subject.contains("SMS Issuing"));
    assert!(overview.role.subject.contains("SMS Role Signing"));
    assert_eq!(overview.leaves[0].0, "mp01");
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_served_from_memory_only() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority(state.path());
    authority.ensure_leaf("../../x", &hosts(&["mp01.contoso.com"]), second(NOW)).unwrap();
    assert!(!state.path().join("x.crt").exists());
    assert_eq!(fs::read_dir(file(state.path(), "leaf")).unwrap().count(), 0);
}
