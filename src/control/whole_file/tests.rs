//! Ways of writing a file, and when it counts as complete.

use std::fs;

use notify::event::{CreateKind, DataChange, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use sitegate_forge::Pki;

use super::*;
use crate::clock::{Clock, second};
use crate::config::ClientCertificates;
use crate::control::{BlocklistFile, ClientFiles, IssuerKeys};

const WHOLE: &str = "one\ntwo\n";

struct Scene {
    dir: tempfile::TempDir,
    file: WholeFile,
    renames: Renames,
}

impl Scene {
    fn with(text: &str) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        fs::write(&path, text).unwrap();
        let renames = Renames::default();
        let mut file = WholeFile::new(path, 64, renames.clone());
        assert_eq!(file.take().unwrap().as_slice(), text.as_bytes());
        Scene { dir, file, renames }
    }

    fn write(&self, text: &str) {
        fs::write(self.file.path(), text).unwrap();
    }

    fn rename(&self, text: &str) {
        let next = self.dir.path().join("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.file.path()).unwrap();
        self.note(EventKind::Modify(ModifyKind::Name(RenameMode::To)), self.file.path().to_owned());
    }

    fn note(&self, kind: EventKind, path: PathBuf) {
        self.renames.note(&Ok(Event::new(kind).add_path(path)));
    }

    fn look(&mut self) -> String {
        match self.file.look() {
            FileState::Same => "same".into(),
            FileState::Settling => "settling".into(),
            FileState::Whole(bytes) => format!("whole: {}", String::from_utf8_lossy(&bytes)),
            FileState::Unreadable(error) => format!("unreadable: {error}"),
        }
    }
}

async fn wait(time: Duration) {
    tokio::time::advance(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_written_in_place_counts_once_it_is_stable() {
    for cut in ["", "one\n", "one\ntw"] {
        let mut scene = Scene::with("before\n");
        scene.write(cut);
        assert_eq!(scene.look(), "settling", "{cut:?}");
        wait(SETTLE - LOOK).await;
        assert_eq!(scene.look(), "settling", "{cut:?}");
        scene.write(WHOLE);
        wait(LOOK).await;
        assert_eq!(scene.look(), "settling", "it has changed again after {cut:?}");
        wait(SETTLE - LOOK).await;
        assert_eq!(scene.look(), "settling");
        wait(LOOK).await;
        assert_eq!(scene.look(), "whole: one\ntwo\n");
        assert_eq!(scene.look(), "same");
        assert!(scene.file.pause().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_renamed_into_place_counts_at_once_unless_it_is_empty() {
    let mut scene = Scene::with("before\n");
    scene.rename(WHOLE);
    assert_eq!(scene.look(), "whole: one\ntwo\n");
    scene.rename("\n");
    assert_eq!(scene.look(), "settling");
    wait(SETTLE).await;
    assert_eq!(scene.look(), "whole: \n");
}

#[tokio::test(start_paused = true)]
async fn a_rename_says_nothing_of_what_is_written_after_it() {
    let written =
        [EventKind::Modify(ModifyKind::Data(DataChange::Any)), EventKind::Create(CreateKind::File)];
    for kind in written {
        let mut scene = Scene::with("before\n");
        scene.rename(WHOLE);
        scene.write("one\n");
        scene.note(kind, scene.file.path().to_owned());
        assert_eq!(scene.look(), "settling", "{kind:?}");
    }
    // A rename that an earlier check has seen no longer counts, whether its events have come or
    // not.
    let mut scene = Scene::with("before\n");
    scene.rename(WHOLE);
    assert_eq!(scene.look(), "whole: one\ntwo\n");
    scene.write("one\n");
    assert_eq!(scene.look(), "settling");
    // The rename of another file does not count.
    let mut scene = Scene::with("before\n");
    scene.write("one\n");
    let other = scene.dir.path().join("other");
    scene.note(EventKind::Modify(ModifyKind::Name(RenameMode::To)), other);
    assert_eq!(scene.look(), "settling");
}

#[tokio::test(start_paused = true)]
async fn a_link_on_the_way_or_a_directory_above_is_swapped_at_once() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for (folder, text) in [("1", "before\n"), ("2", WHOLE), ("3", "three\n")] {
        fs::create_dir(at(folder)).unwrap();
        fs::write(at(folder).join("list"), text).unwrap();
    }
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
    link("1", "..data");
    link("..data/list", "list");
    let renames = Renames::default();
    let mut file = WholeFile::new(at("list"), 64, renames.clone());
    file.take().unwrap();
    for (target, text) in [("2", WHOLE), ("3", "three\n")] {
        link(target, "..next");
        fs::rename(at("..next"), at("..data")).unwrap();
        let kind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        renames.note(&Ok(Event::new(kind).add_path(at("..data"))));
        let FileState::Whole(bytes) = file.look() else { panic!("{target} is in its place") };
        assert_eq!(bytes.as_slice(), text.as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_for_a_moment_is_not_missed() {
    let mut scene = Scene::with(WHOLE);
    fs::remove_file(scene.file.path()).unwrap();
    assert_eq!(scene.look(), "settling");
    wait(SETTLE - LOOK).await;
    scene.write(WHOLE);
    assert_eq!(scene.look(), "same");
    fs::remove_file(scene.file.path()).unwrap();
    assert_eq!(scene.look(), "settling");
    wait(SETTLE).await;
    assert_eq!(scene.look(), "unreadable: No such file or directory (os error 2)");
    assert!(scene.file.pause().is_none(), "from now on it is enough to hear of it");
    scene.write(WHOLE);
    assert_eq!(scene.look(), "settling");
    wait(SETTLE).await;
    assert_eq!(scene.look(), "whole: one\ntwo\n", "it is news that it is there again");
}

#[tokio::test(start_paused = true)]
async fn what_stays_cut_is_taken_unless_it_says_where_it_ends() {
    let mut scene = Scene::with("# begin\none\ntwo\n# end\n");
    for text in ["# begin\none\n", "# begin\r\none\r\n# end of one\r\n"] {
        scene.write(text);
        assert_eq!(scene.look(), "settling");
        wait(SETTLE).await;
        let told = scene.look();
        assert!(told.starts_with("unreadable: cut short: its first line is '# begin'"), "{told}");
    }
    scene.write("# begin\r\none\r\n# end\r\n\r\n");
    assert_eq!(scene.look(), "settling");
    wait(SETTLE).await;
    assert!(scene.look().starts_with("whole: "));
    scene.write("one\n");
    assert_eq!(scene.look(), "settling");
    wait(SETTLE).await;
    assert_eq!(scene.look(), "whole: one\n");
}

/// A kind of watched file: its name, contents of which each is a prefix of the next, and a function
/// that counts the entries in force.
struct Kind {
    name: &'static str,
    texts: [String; 3],
    start: fn(PathBuf) -> Started,
}

fn kinds() -> Vec<Kind> {
    let blocks = |n: usize| "[[block]]\ndevice = \"a\"\n".repeat(n);
    let now = second(1_800_000_000);
    let pki = |name: &str| Pki::new(name, now).unwrap();
    let roots =
        |names: &[&str]| names.iter().map(|name| pki(name).root().to_owned()).collect::<String>();
    let crl = |name: &str| pki(name).crl(&[], now, second(1_900_000_000)).unwrap();
    vec![
        Kind {
            name: "blocklist",
            texts: [blocks(2), blocks(1), blocks(3)],
            start: |path| {
                let (task, list) = BlocklistFile::start(path, std::sync::Arc::new(|_| {})).unwrap();
                (Box::pin(task.run(never())), Box::new(move || list.peek(|list| list.len())))
            },
        },
        Kind {
            name: "keys",
            texts: [roots(&["a", "b"]), roots(&["a"]), roots(&["a", "b", "c"])],
            start: |path| {
                let (task, keys) = IssuerKeys::start(
                    "idp".into(),
                    vec![path],
                    None,
                    std::sync::Arc::new(|_, _, _| {}),
                );
                (Box::pin(task.run(never())), Box::new(move || keys.peek(|keys| keys.len())))
            },
        },
        Kind {
            name: "client_ca",
            texts: [roots(&["a", "b"]), roots(&["a"]), roots(&["a", "b", "c"])],
            start: |path| {
                let crl = path.with_file_name("none");
                clients(path, crl, |trust| trust.authorities())
            },
        },
        Kind {
            name: "client_crl",
            texts: [crl("a") + &crl("b"), crl("a"), crl("a") + &crl("b") + &crl("c")],
            start: |path| {
                let ca = path.with_file_name("none");
                clients(ca, path, |trust| trust.crls().map_or(0, |crls| crls.len()))
            },
        },
    ]
}

type Started = (std::pin::Pin<Box<dyn Future<Output = ()>>>, Box<dyn Fn() -> usize>);

fn clients(ca: PathBuf, crl: PathBuf, count: fn(&crate::client::ClientTrust) -> usize) -> Started {
    let files = ClientCertificates { ca, crls: vec![crl], expired_crls_count: false };
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clock = Clock::manual(second(1_800_000_000)).0;
    let on_change = std::sync::Arc::new(|_: &_| {});
    let (task, trust) = ClientFiles::start("mp01".into(), files, clock, provider, on_change);
    (Box::pin(task.run(never())), Box::new(move || trust.peek(count)))
}

fn never() -> tokio::sync::watch::Receiver<bool> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    std::mem::forget(stop);
    stopped
}

#[tokio::test(start_paused = true)]
async fn a_truncated_file_of_any_kind_is_not_in_force() {
    for Kind { name, texts: [before, part, after], start } in kinds() {
        let cuts = [
            ("truncated to nothing", ""),
            ("between entries", &part),
            ("in the middle of an entry", &after[..part.len() + 9]),
        ];
        for (cut, text) in cuts {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, &before).unwrap();
            let (task, count) = start(path.clone());
            let script = async {
                assert_eq!(count(), 2, "{name}");
                fs::write(&path, text).unwrap();
                tokio::time::sleep(SETTLE - Duration::from_millis(100)).await;
                assert_eq!(count(), 2, "{name} {cut}: what is cut is not in force");
                fs::write(&path, &after).unwrap();
                tokio::time::sleep(SETTLE * 2).await;
                assert_eq!(count(), 3, "{name} {cut}: what is whole is");
            };
            tokio::select! {
                () = script => {}
                () = task => unreachable!(),
            }
        }
    }
}
