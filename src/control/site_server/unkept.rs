//! Documents that are in force but could not be written to disk.

use super::bundle_files::BundleFiles;

/// The documents since the last that is on disk, one in each line; empty if all are on disk.
#[derive(Default)]
pub(super) struct Unkept {
    lines: String,
    /// Whether they begin with a whole bundle, and do not follow what is on disk.
    is_whole: bool,
}

impl Unkept {
    /// A bundle, with the deltas that follow it.
    pub(super) fn of(bundle: &str) -> Self {
        Unkept { lines: bundle.trim_end().to_owned(), is_whole: true }
    }

    pub(super) fn push(&mut self, delta: &str) {
        if !self.lines.is_empty() {
            self.lines.push('\n');
        }
        self.lines.push_str(delta);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All documents of the bundle in force, with those on disk.
    pub(super) fn text(&self, kept: &BundleFiles) -> Option<String> {
        match (self.is_whole, self.is_empty()) {
            (true, _) => Some(self.lines.clone()),
            (false, true) => kept.text(),
            (false, false) => kept.text().map(|text| followed(text, &self.lines)),
        }
    }
}

/// Documents and those that follow them. The first of these may be on disk already, if only what
/// comes after it could not be written.
fn followed(mut text: String, lines: &str) -> String {
    let last = text.lines().last().unwrap_or_default().to_owned();
    for line in lines.lines().filter(|line| *line != last) {
        text.push('\n');
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_on_disk_is_not_repeated() {
        let text = |on_disk: &str, lines: &str| followed(on_disk.to_owned(), lines);
        assert_eq!(text("base", "a\nb"), "base\na\nb");
        assert_eq!(text("base\na", "a\nb"), "base\na\nb");
        assert_eq!(text("base\na", "a"), "base\na");
    }
}
