//! Hot reload of the blocklist: one file is watched, read and published.
//!
//! A broken or missing file unblocks no device: the last good list stays in force, with errors
//! logged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::watch::Watch;
use super::whole_file::{FileState, WholeFile, settle};
use crate::live::{Live, Publisher, live};
use crate::secret::read_whole;
use crate::token::{BLOCKLIST_BYTES_MAX, Blocklist};

const POLL: Duration = Duration::from_secs(30);

/// Called after every read: with the list that is now in force, or `None` if the file is unusable.
pub type OnBlocklist = Arc<dyn Fn(Option<&Blocklist>) + Send + Sync>;

/// The task that follows the blocklist file.
pub struct BlocklistFile {
    file: WholeFile,
    told: String,
    watch: Watch,
    publisher: Publisher<Blocklist>,
    on_list: OnBlocklist,
}

impl BlocklistFile {
    /// Reads the file, so that the first request can already be checked.
    ///
    /// # Errors
    /// The faults of the file, one per line. Without a list no device is known to be blocked, so
    /// the gateway must not serve.
    pub fn start(path: PathBuf, on_list: OnBlocklist) -> Result<(Self, Live<Blocklist>), String> {
        // Armed before the first read, so that no change falls between the two.
        let watch = Watch::new(path.parent().map(PathBuf::from), POLL);
        let (publisher, reader) = live(Blocklist::default());
        let file = WholeFile::new(path, BLOCKLIST_BYTES_MAX as u64, watch.renames());
        let mut file = BlocklistFile { file, told: String::new(), watch, publisher, on_list };
        match file.file.take() {
            Ok(bytes) => file.read_in(&bytes)?,
            Err(error) => return Err(file.unreadable(&error)),
        }
        Ok((file, reader))
    }

    /// Reads a list once.
    ///
    /// # Errors
    /// As [`BlocklistFile::start`].
    pub fn read(path: &Path) -> Result<Blocklist, String> {
        match read_whole(path, BLOCKLIST_BYTES_MAX as u64) {
            Ok((bytes, _)) => parse(path, &bytes),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Follows the file until stopped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let pause = self.file.pause();
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() { return },
                () = self.watch.changed() => {}
                () = settle([pause]) => {}
            }
            let trouble = self.look().err().unwrap_or_default();
            if trouble != self.told {
                for line in trouble.lines() {
                    tracing::error!(
                        target: "sitegate::blocklist",
                        "the blocklist was not read, the previous one stays in force: {line}"
                    );
                }
                self.told = trouble;
            }
        }
    }

    /// Checks the file; publishes it if it changed, is complete and is valid.
    fn look(&mut self) -> Result<(), String> {
        match self.file.look() {
            FileState::Same | FileState::Settling if self.told.is_empty() => Ok(()),
            FileState::Same | FileState::Settling => Err(self.told.clone()),
            FileState::Whole(bytes) => self.read_in(&bytes),
            FileState::Unreadable(error) => Err(self.unreadable(&error)),
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> String {
        (self.on_list)(None);
        format!("{}: {error}", self.file.path().display())
    }

    fn read_in(&mut self, bytes: &[u8]) -> Result<(), String> {
        match parse(self.file.path(), bytes) {
            Ok(list) => {
                let path = self.file.path().display();
                let (before, entries) = (self.publisher.reader().peek(Blocklist::len), list.len());
                if entries * 2 < before {
                    tracing::warn!(
                        target: "sitegate::blocklist",
                        %path, before, entries, "more than half of the blocklist's entries were removed"
                    );
                } else {
                    tracing::info!(
                        target: "sitegate::blocklist", %path, entries, "the blocklist was read"
                    );
                }
                let list = Arc::new(list);
                self.publisher.publish_arc(list.clone());
                (self.on_list)(Some(&list));
                Ok(())
            }
            Err(trouble) => {
                (self.on_list)(None);
                Err(trouble)
            }
        }
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Blocklist, String> {
    Blocklist::parse(bytes).map_err(|faults| {
        let lines = faults.iter().map(|fault| format!("{}:{fault}", path.display()));
        lines.collect::<Vec<_>>().join("\n")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn settled(file: &mut BlocklistFile) -> Result<(), String> {
        let _ = file.look();
        tokio::time::advance(crate::control::whole_file::SETTLE).await;
        file.look()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_whole_good_file_takes_the_place_of_the_list_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocklist.toml");
        let said = Arc::new(Mutex::new(Vec::new()));
        let tell: OnBlocklist = {
            let said = said.clone();
            Arc::new(move |list| said.lock().unwrap().push(list.map(Blocklist::len)))
        };
        let missing = BlocklistFile::start(path.clone(), tell.clone()).err();
        assert!(missing.is_some_and(|told| told.contains("blocklist.toml: No such file")));

        std::fs::write(&path, "[[block]]\ndevice = \"a\"\n").unwrap();
        let (mut file, list) = BlocklistFile::start(path.clone(), tell).unwrap();
        assert_eq!(list.peek(Blocklist::len), 1);
        for (text, told) in [
            (Some("[[block]]\ndevice = \"a\"\n[[block]]\ndevise = 1"), "blocklist.toml:4:1: "),
            (Some("[[block]]"), "blocklist.toml:1:1: an entry needs"),
            (None, "blocklist.toml: No such file"),
        ] {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let trouble = settled(&mut file).await.unwrap_err();
            assert!(trouble.contains(told), "{trouble}");
            assert_eq!(list.peek(Blocklist::len), 1, "the last good list stays: {told}");
        }
        std::fs::write(&path, "").unwrap();
        settled(&mut file).await.unwrap();
        assert_eq!(list.peek(Blocklist::len), 0, "an empty file is a good list");
        let said = said.lock().unwrap().clone();
        assert_eq!(said, [None, Some(1), None, None, None, Some(0)]);
    }
}
