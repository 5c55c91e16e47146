//! Directories that appear, disappear, are replaced or are linked.

use std::time::Instant;

use super::*;

const POLL: Duration = Duration::from_secs(3600);

/// Makes a change while a wait is in progress. Returns whether it is noticed, long before any poll.
async fn noticed(watch: &mut Watch, change: impl FnOnce()) -> bool {
    let change = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        change();
    };
    let wait = tokio::time::timeout(Duration::from_secs(5), watch.changed());
    tokio::join!(wait, change).0.is_ok()
}

/// Waits until the events of earlier changes have passed.
async fn quiet(watch: &mut Watch) {
    while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
}

fn watched() -> (tempfile::TempDir, PathBuf, Watch) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("pki/mp01");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("tls.crt"), "old").unwrap();
    let watch = Watch::new([dir.clone()], POLL);
    assert!(watch.has_events());
    (root, dir, watch)
}

#[tokio::test]
async fn writing_renaming_and_removing_are_noticed_and_reading_is_not() {
    let (_root, dir, mut watch) = watched();
    let file = dir.join("tls.crt");
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::write(&file, "new").unwrap()).await);
    fs::write(dir.join("next"), "newer").unwrap();
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::rename(dir.join("next"), &file).unwrap()).await);
    quiet(&mut watch).await;
    let read = || {
        let _ = (fs::read(&file), fs::read_dir(&dir).unwrap().count());
    };
    let reading = tokio::time::timeout(Duration::from_millis(200), noticed(&mut watch, read)).await;
    assert!(reading.is_err(), "reading is no change");
    assert!(noticed(&mut watch, || fs::remove_file(&file).unwrap()).await);
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_followed() {
    let (root, dir, mut watch) = watched();
    let next = root.path().join("pki/next");
    fs::create_dir(&next).unwrap();
    quiet(&mut watch).await;
    let replace = || {
        fs::rename(&dir, root.path().join("pki/old")).unwrap();
        fs::rename(&next, &dir).unwrap();
    };
    assert!(noticed(&mut watch, replace).await);
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::write(dir.join("tls.crt"), "new").unwrap()).await);
}

#[tokio::test]
async fn a_directory_that_comes_later_is_awaited_from_far_above() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/b/c");
    let mut watch = Watch::new([dir.clone()], POLL);
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::create_dir_all(&dir).unwrap()).await);
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::write(dir.join("tls.crt"), "new").unwrap()).await);
}

#[tokio::test]
async fn a_directory_symlink_is_followed_when_it_is_swapped() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(at(name)).unwrap();
    }
    std::os::unix::fs::symlink("one", at("current")).unwrap();
    std::os::unix::fs::symlink("two", at("next")).unwrap();
    let mut watch = Watch::new([at("current")], POLL);
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::rename(at("next"), at("current")).unwrap()).await);
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::write(at("two").join("tls.crt"), "new").unwrap()).await);
}

#[tokio::test]
async fn what_happened_before_the_wait_ends_it_at_once() {
    let (_root, dir, mut watch) = watched();
    quiet(&mut watch).await;
    fs::write(dir.join("tls.crt"), "new").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    watch.changed().await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn without_any_event_it_is_time_to_look_after_the_poll() {
    let root = tempfile::tempdir().unwrap();
    let poll = Duration::from_secs(30);
    let mut watch = Watch::new([root.path().to_owned()], poll);
    let start = tokio::time::Instant::now();
    watch.changed().await;
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn polling_sees_a_changed_link_target_and_nothing_beside_it() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::create_dir(at("far")).unwrap();
    fs::write(at("far/list"), "one").unwrap();
    std::os::unix::fs::symlink("../far/list", at("dir/list")).unwrap();
    let meant = at("dir/list");
    let watch = Watch::new([at("dir")], POLL).only(move |path| path == meant);
    let before = watch.compared();
    fs::write(at("dir/beside"), "new").unwrap();
    assert_eq!(watch.compared(), before);
    fs::write(at("far/list"), "another").unwrap();
    assert_ne!(watch.compared(), before, "the link leads to something else now");
}

#[test]
fn an_overflow_or_error_event_triggers_a_look() {
    let directories = [PathBuf::from("/etc/pki")];
    let rescan = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    assert!(concerns(&directories, None, &Ok(rescan)));
    assert!(concerns(&directories, None, &Err(notify::Error::generic("lost"))));
    let elsewhere = Event::new(EventKind::Any).add_path("/etc/passwd".into());
    assert!(!concerns(&directories, None, &Ok(elsewhere)));
    let above = Event::new(EventKind::Any).add_path("/etc".into());
    assert!(concerns(&directories, None, &Ok(above)));
}

#[tokio::test]
async fn only_relevant_paths_wake_the_watcher_unless_linked() {
    let (_root, dir, watch) = watched();
    let certificate = dir.join("tls.crt");
    let mut watch = watch.only(move |path| path == certificate);
    quiet(&mut watch).await;
    let write = || fs::write(dir.join("tls.crt.new"), "new").unwrap();
    let beside = tokio::time::timeout(Duration::from_millis(200), noticed(&mut watch, write)).await;
    assert!(beside.is_err(), "a file beside it is none of its business");
    let rename = || fs::rename(dir.join("tls.crt.new"), dir.join("tls.crt")).unwrap();
    assert!(noticed(&mut watch, rename).await);
    quiet(&mut watch).await;
    // A second hard link of the same file writes it too.
    let second = || fs::hard_link(dir.join("tls.crt"), dir.join("other")).unwrap();
    assert!(noticed(&mut watch, second).await);
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::write(dir.join("other"), "2").unwrap()).await);
    quiet(&mut watch).await;
    fs::remove_file(dir.join("other")).unwrap();
    fs::create_dir(dir.join("tls.d")).unwrap();
    quiet(&mut watch).await;
    let write = || fs::write(dir.join("tls.crt.new"), "new").unwrap();
    let beside = tokio::time::timeout(Duration::from_millis(200), noticed(&mut watch, write)).await;
    assert!(beside.is_err(), "a folder has several names, and leads nowhere");
    // Behind a link any name may lead to a relevant file.
    let link = || std::os::unix::fs::symlink("data-1", dir.join("..data")).unwrap();
    assert!(noticed(&mut watch, link).await);
    quiet(&mut watch).await;
    assert!(noticed(&mut watch, || fs::write(dir.join("data-1"), "new").unwrap()).await);
    quiet(&mut watch).await;
    // The directory itself always counts.
    assert!(noticed(&mut watch, || fs::remove_dir_all(&dir).unwrap()).await);
}
