//! The packages of a simulated distribution point: generated from names, or from a folder.
//!
//! Reads nothing outside its folder.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use sitegate::os::FileStamp;

use crate::content::{Content, ContentSource};

/// The listing of a generated package; every other name exists as well.
const MADE_UP: [&str; 3] = ["setup.exe", "1048576.cab", "3145999.wim"];
const MADE_UP_PACKAGE: &str = "PS100012";

/// The source of content.
#[derive(Debug)]
pub(crate) enum Shelf {
    /// Generated from the names.
    MadeUp,
    /// A folder with one folder for each package.
    Folder(PathBuf),
}

/// The target of a path.
pub(super) enum ShelfFile {
    /// A file.
    File(ContentSource),
    /// The names in a folder; those of subfolders end in a slash.
    Folder(Vec<String>),
}

impl Shelf {
    /// Finds a path below the namespace; names are case-insensitive.
    pub(super) fn find(&self, path: &str) -> Option<ShelfFile> {
        let path = percent_decode_str(path).decode_utf8().ok()?;
        match self {
            Shelf::MadeUp => Some(made_up(&path)),
            Shelf::Folder(root) => stored(root, &path),
        }
    }
}

fn made_up(path: &str) -> ShelfFile {
    match path.split_once('/') {
        None if path.is_empty() => ShelfFile::Folder(vec![format!("{MADE_UP_PACKAGE}/")]),
        None | Some((_, "")) => ShelfFile::Folder(MADE_UP.map(str::to_owned).to_vec()),
        Some((package, file)) => ShelfFile::File(ContentSource::Made(Content::of(package, file))),
    }
}

fn stored(root: &Path, path: &str) -> Option<ShelfFile> {
    let mut at = root.to_owned();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        // A name that is found in the directory listing is never a path traversal.
        let wanted = names(&at)?
            .into_iter()
            .find(|other| other.trim_end_matches('/').eq_ignore_ascii_case(name))?;
        at.push(wanted.trim_end_matches('/'));
    }
    if at.is_dir() {
        return Some(ShelfFile::Folder(names(&at)?));
    }
    let file = File::open(&at).ok()?;
    let metadata = file.metadata().ok()?;
    let mut hasher = DefaultHasher::new();
    FileStamp::of(&metadata).of_contents().hash(&mut hasher);
    let tag = hasher.finish();
    Some(ShelfFile::File(ContentSource::Stored(Arc::new(file), metadata.len(), tag)))
}

fn names(folder: &Path) -> Option<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let kind = entry.file_type().ok()?;
            let name = entry.file_name().into_string().ok()?;
            match (kind.is_dir(), kind.is_file()) {
                (true, _) => Some(name + "/"),
                (_, true) => Some(name),
                // A link may lead out of the folder.
                _ => None,
            }
        })
        .collect();
    names.sort();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_served_without_case_and_without_a_way_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("in/PS100001")).unwrap();
        std::fs::write(root.path().join("in/PS100001/Setup File.exe"), b"hello").unwrap();
        std::fs::write(root.path().join("secret"), b"secret").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), root.path().join("in/link"))
            .unwrap();
        let shelf = Shelf::Folder(root.path().join("in"));
        let Some(ShelfFile::Folder(names)) = shelf.find("") else { panic!("no packages") };
        assert_eq!(names, ["PS100001/"]);
        let Some(ShelfFile::File(file)) = shelf.find("ps100001/SETUP%20file.exe") else {
            panic!("no file")
        };
        assert_eq!((file.len(), &file.bytes(1..3).unwrap()[..]), (5, &b"el"[..]));
        for out in ["../secret", "%2e%2e/secret", "link", "PS100001/../../secret", "nothing"] {
            assert!(shelf.find(out).is_none(), "{out}");
        }
    }
}
