//! What is in force but could not be written to disk.

use super::bundle_files::BundleFiles;

/// How many bytes of deltas wait for a disk that takes nothing. After that, a whole bundle takes
/// their place.
const WAITING_MAX: usize = 4 * 1024 * 1024;

/// The documents since the last that is on disk.
#[derive(Default)]
pub(super) struct Unkept {
    /// A whole bundle with the deltas that came with it. What is on disk is older.
    whole: Option<String>,
    /// The deltas after that, or after what is on disk.
    deltas: Vec<String>,
    /// Whether the trust on disk is that of an earlier version.
    owes_trust: bool,
}

impl Unkept {
    /// A bundle, with the deltas that follow it.
    pub(super) fn of(bundle: &str) -> Self {
        Unkept { whole: Some(bundle.trim_end().to_owned()), ..Unkept::default() }
    }

    pub(super) fn push(&mut self, delta: &str) {
        self.deltas.push(delta.to_owned());
    }

    /// Notes that the documents are on disk, but not the trust in them.
    pub(super) fn owe_trust(&mut self) {
        self.owes_trust = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        !(self.has_documents() || self.owes_trust)
    }

    /// Whether a further delta has to wait, too.
    pub(super) fn has_documents(&self) -> bool {
        self.whole.is_some() || !self.deltas.is_empty()
    }

    /// Whether so many deltas wait that a whole bundle should take their place.
    pub(super) fn has_many(&self) -> bool {
        self.deltas.iter().map(String::len).sum::<usize>() > WAITING_MAX
    }

    /// The whole bundle that waits, with its deltas, one document in each line.
    pub(super) fn bundle(&self) -> Option<String> {
        let whole = self.whole.as_ref()?;
        Some(self.deltas.iter().fold(whole.clone(), |lines, delta| lines + "\n" + delta))
    }

    /// All documents of the bundle in force, with those on disk.
    pub(super) fn text(&self, kept: &BundleFiles) -> Option<String> {
        if self.whole.is_some() {
            return self.bundle();
        }
        Some(self.deltas.iter().fold(kept.text()?, |lines, delta| lines + "\n" + delta))
    }

    /// Appends the deltas that wait, as far as the disk takes them.
    ///
    /// # Errors
    /// The file system's error; the rest still waits.
    pub(super) fn append_to(&mut self, kept: &BundleFiles) -> std::io::Result<()> {
        while let Some(delta) = self.deltas.first() {
            kept.keep_delta(delta)?;
            self.deltas.remove(0);
            self.owes_trust = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_follows_what_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let kept = BundleFiles::new(dir.path());
        std::fs::create_dir_all(kept.dir()).unwrap();
        std::fs::write(kept.dir().join("bundle.jws"), "base").unwrap();
        let mut unkept = Unkept::default();
        assert!(unkept.is_empty());
        unkept.push("a");
        unkept.push("b");
        assert_eq!(unkept.text(&kept).as_deref(), Some("base\na\nb"));
        // There is no file for deltas yet: nothing of it may be lost.
        assert!(unkept.append_to(&kept).is_err());
        assert_eq!(unkept.text(&kept).as_deref(), Some("base\na\nb"));
        std::fs::write(kept.dir().join("bundle-deltas.jws"), "").unwrap();
        unkept.append_to(&kept).unwrap();
        assert_eq!(kept.text().as_deref(), Some("base\na\nb"));
        assert!(!unkept.has_documents() && !unkept.is_empty(), "the trust is still to be written");
    }

    #[test]
    fn a_whole_bundle_replaces_what_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let kept = BundleFiles::new(dir.path());
        let mut unkept = Unkept::of("base\na\n");
        unkept.push("b");
        assert_eq!(unkept.text(&kept).as_deref(), Some("base\na\nb"));
        assert_eq!(unkept.bundle(), unkept.text(&kept));
    }

    #[test]
    fn deltas_wait_up_to_a_limit() {
        let mut unkept = Unkept::default();
        unkept.push(&"x".repeat(WAITING_MAX));
        assert!(!unkept.has_many());
        unkept.push("x");
        assert!(unkept.has_many());
    }
}
