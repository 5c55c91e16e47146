//! Folders with every content that operators and disks can leave in them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rstest::rstest;
use sitegate_forge::{Forged, Order, Pki, Protection, pfx};

use crate::clock::second;

use super::*;

const NOW: i64 = 1_800_000_000;

fn forged() -> (Pki, Forged) {
    let pki = Pki::new("Contoso", second(NOW)).unwrap();
    let forged = pki.issue(&Order::fit(&["mp01.contoso.com"], second(NOW))).unwrap();
    (pki, forged)
}

fn put(dir: &Path, name: &str, text: &str, mode: u32) {
    fs::write(dir.join(name), text).unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
}

fn filled() -> (tempfile::TempDir, Forged) {
    let (dir, (_, forged)) = (tempfile::tempdir().unwrap(), forged());
    put(dir.path(), "tls.crt", &forged.chain, 0o644);
    put(dir.path(), "tls.key", &forged.key, 0o600);
    (dir, forged)
}

fn store(folder: Folder) -> CertFolder {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    CertFolder::new(folder, Source::Pki, provider)
}

/// The contents of a folder with one credential.
fn only(store: &mut CertFolder) -> Result<LoadedFolder, Unfit> {
    let mut candidates = store.load().map_err(|fault| fault.unfit)?;
    assert_eq!(candidates.len(), 1);
    candidates.remove(0).found.map_err(|fault| fault.unfit)
}

fn load(dir: &Path) -> Result<LoadedFolder, Unfit> {
    only(&mut store(Folder::new(dir)))
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn a_file_of_roots_that_was_named_has_to_be_there() {
    let (dir, _) = filled();
    let named =
        Folder { anchors: "roots.pem".into(), anchors_named: true, ..Folder::new(dir.path()) };
    assert_eq!(only(&mut store(named.clone())).unwrap_err(), Unfit::Incomplete);
    put(dir.path(), "roots.pem", Pki::new("Contoso", second(NOW)).unwrap().root(), 0o644);
    assert!(only(&mut store(named.clone())).unwrap().anchors.is_some());
    put(dir.path(), "roots.pem", "no root yet\n", 0o644);
    assert_eq!(only(&mut store(named)).unwrap_err(), Unfit::Malformed);
    // Without a configured name it is optional.
    assert!(load(dir.path()).unwrap().anchors.is_none());
}

#[rstest]
#[case::whole(|_: &Path| (), None)]
#[case::empty_folder(|d: &Path| for f in ["tls.crt", "tls.key"] { fs::remove_file(d.join(f)).unwrap() }, Some(Unfit::Absent))]
#[case::no_folder(|d: &Path| fs::remove_dir_all(d).unwrap(), Some(Unfit::Absent))]
#[case::no_key(|d: &Path| fs::remove_file(d.join("tls.key")).unwrap(), Some(Unfit::Incomplete))]
#[case::no_certificate(|d: &Path| fs::remove_file(d.join("tls.crt")).unwrap(), Some(Unfit::Incomplete))]
#[case::empty_key(|d: &Path| fs::write(d.join("tls.key"), "").unwrap(), Some(Unfit::Incomplete))]
#[case::directory(|d: &Path| { fs::remove_file(d.join("tls.key")).unwrap(); fs::create_dir(d.join("tls.key")).unwrap() }, Some(Unfit::Unreadable))]
#[case::fifo(|d: &Path| { fs::remove_file(d.join("tls.crt")).unwrap(); fifo(&d.join("tls.crt")) }, Some(Unfit::Unreadable))]
#[case::twenty_megabytes(|d: &Path| fs::write(d.join("tls.crt"), vec![b'\n'; 20 << 20]).unwrap(), Some(Unfit::Unreadable))]
#[case::a_file_for_the_folder(|d: &Path| { fs::remove_dir_all(d).unwrap(); fs::write(d, "x").unwrap() }, Some(Unfit::Unreadable))]
#[case::broken_roots(|d: &Path| fs::write(d.join("ca.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap(), Some(Unfit::Malformed))]
#[case::half_roots(|d: &Path| fs::write(d.join("ca.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap(), Some(Unfit::Incomplete))]
#[case::empty_roots(|d: &Path| fs::write(d.join("ca.crt"), "").unwrap(), None)]
#[case::key_for_everyone(|d: &Path| fs::set_permissions(d.join("tls.key"), fs::Permissions::from_mode(0o644)).unwrap(), Some(Unfit::KeyExposed))]
fn a_folder_gives_a_whole_pair_or_the_reason_why_not(
    #[case] spoil: fn(&Path),
    #[case] expected: Option<Unfit>,
) {
    let (dir, _) = filled();
    let inner = dir.path().join("pki");
    fs::create_dir(&inner).unwrap();
    for name in ["tls.crt", "tls.key"] {
        fs::rename(dir.path().join(name), inner.join(name)).unwrap();
    }
    spoil(&inner);
    assert_eq!(load(&inner).err(), expected);
}

#[test]
fn a_key_in_a_certificate_that_everyone_can_read_is_exposed() {
    let (dir, forged) = filled();
    fs::remove_file(dir.path().join("tls.key")).unwrap();
    put(dir.path(), "tls.crt", &format!("{}{}", forged.chain, *forged.key), 0o644);
    assert_eq!(load(dir.path()).err(), Some(Unfit::KeyExposed));
    put(dir.path(), "tls.crt", &format!("{}{}", forged.chain, *forged.key), 0o600);
    assert!(load(dir.path()).is_ok());
}

#[test]
fn a_group_readable_key_is_a_warning() {
    let (dir, forged) = filled();
    put(dir.path(), "tls.key", &forged.key, 0o640);
    assert!(load(dir.path()).unwrap().group_readable);
    put(dir.path(), "tls.key", &forged.key, 0o644);
    let told = Folder { key_mode: KeyMode::Any, ..Folder::new(dir.path()) };
    assert!(only(&mut store(told)).is_ok());
}

#[test]
fn a_changed_mode_is_seen_though_the_bytes_are_the_same() {
    let (dir, forged) = filled();
    let mut store = store(Folder::new(dir.path()));
    assert!(only(&mut store).is_ok());
    put(dir.path(), "tls.key", &forged.key, 0o644);
    assert_eq!(only(&mut store).err(), Some(Unfit::KeyExposed));
}

#[test]
fn equal_bytes_are_not_parsed_again() {
    let (dir, _) = filled();
    let mut store = store(Folder::new(dir.path()));
    let (first, second) = (only(&mut store).unwrap(), only(&mut store).unwrap());
    assert!(Arc::ptr_eq(&first.credential, &second.credential));
}

#[test]
fn links_are_followed_as_kubernetes_lays_them() {
    let (dir, forged) = filled();
    let data = dir.path().join("..2026_11_22");
    fs::create_dir(&data).unwrap();
    put(&data, "tls.crt", &forged.chain, 0o644);
    put(&data, "tls.key", &forged.key, 0o600);
    symlink("..2026_11_22", dir.path().join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        fs::remove_file(dir.path().join(name)).unwrap();
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    assert!(load(dir.path()).is_ok());
}

#[test]
fn files_may_have_other_names_and_be_one() {
    let (dir, forged) = filled();
    put(dir.path(), "mp01.pem", &format!("{}{}", *forged.key, forged.chain), 0o600);
    let mut folder = Folder::new(dir.path());
    (folder.certificate, folder.key) = ("mp01.pem".to_owned(), "mp01.pem".to_owned());
    assert!(only(&mut store(folder)).is_ok());
}

#[test]
fn roots_beside_the_pair_come_with_it() {
    let (dir, (pki, forged)) = (tempfile::tempdir().unwrap(), forged());
    put(dir.path(), "tls.crt", &forged.chain, 0o644);
    put(dir.path(), "tls.key", &forged.key, 0o600);
    assert!(load(dir.path()).unwrap().anchors.is_none());
    put(dir.path(), "ca.crt", pki.root(), 0o644);
    assert!(load(dir.path()).unwrap().anchors.is_some());
}

fn put_pfx(dir: &Path, name: &str, forged: &Forged, password: &str) {
    let parts = (&*forged.chain, &**forged.key);
    let der = pfx(parts, password, Protection::Modern, 4).unwrap();
    fs::write(dir.join(name), der).unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

fn with_password(dir: &Path) -> Folder {
    let password = Some(PasswordSource::File(dir.join("password")));
    Folder { password, ..Folder::new(dir) }
}

#[test]
fn a_pfx_opens_with_the_current_password() {
    let (dir, (_, forged)) = (tempfile::tempdir().unwrap(), forged());
    put_pfx(dir.path(), "mp01.PFX", &forged, "s3cret");
    let mut store = store(with_password(dir.path()));
    assert_eq!(only(&mut store).err(), Some(Unfit::PasswordUnreadable));
    put(dir.path(), "password", "wrong\n", 0o600);
    assert_eq!(only(&mut store).err(), Some(Unfit::PasswordWrong));
    put(dir.path(), "password", "s3cret\n", 0o600);
    let loaded = only(&mut store).unwrap();
    assert!(loaded.anchors.is_some(), "the issuing authority came with it");
    let again = only(&mut store).unwrap();
    assert!(Arc::ptr_eq(&loaded.credential, &again.credential), "and it is opened once");
    put(dir.path(), "password", "s3cret\n", 0o644);
    assert_eq!(only(&mut store).err(), Some(Unfit::KeyExposed));
}

#[test]
fn a_pfx_has_its_file_mode_checked_like_a_key() {
    let (dir, (_, forged)) = (tempfile::tempdir().unwrap(), forged());
    put_pfx(dir.path(), "mp01.p12", &forged, "");
    assert!(load(dir.path()).is_ok());
    let chmod = |mode| {
        let path = dir.path().join("mp01.p12");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(0o640);
    assert!(load(dir.path()).unwrap().group_readable);
    chmod(0o644);
    assert_eq!(load(dir.path()).err(), Some(Unfit::KeyExposed));
    fs::write(dir.path().join("mp01.p12"), vec![0x30; 2 << 20]).unwrap();
    assert_eq!(load(dir.path()).err(), Some(Unfit::Unreadable));
}

#[test]
fn a_folder_of_several_certificates_reports_each_by_name() {
    let (dir, forged) = filled();
    put_pfx(dir.path(), "b.pfx", &forged, "");
    put_pfx(dir.path(), "a.pfx", &forged, "other");
    put_pfx(dir.path(), ".c.pfx", &forged, "");
    put(dir.path(), "readme.txt", "not a certificate", 0o644);
    let found = store(Folder::new(dir.path())).load().unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|c| (c.file.as_str(), c.found.as_ref().err().map(|fault| fault.unfit)))
        .collect();
    let expected = [("tls.crt", None), ("a.pfx", Some(Unfit::PasswordWrong)), ("b.pfx", None)];
    assert_eq!(shown, expected);
    for n in 0..PFX_MAX {
        put(dir.path(), &format!("{n}.pfx"), "", 0o600);
    }
    let found = store(Folder::new(dir.path())).load().unwrap();
    assert_eq!(found.len(), 2, "an archive is not opened, and the pair is not harmed");
    assert!(found[0].found.is_ok());
}
