//! The events of standard error also as CMTrace log files: one for each component, rotated by size
//! to `.lo_`.
//!
//! A layer formats the lines, a dedicated thread writes them: no caller waits for a disk.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Zoned;
use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::queue::Queue;
use super::sink::append;
use crate::clock::Clock;

/// The size at which a file is rotated.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// The components with their own files, by the last word of an event's target. All others share the
/// first.
const COMPONENTS: [&str; 13] = [
    "sitegate",
    "certificate",
    "config",
    "token_service",
    "keys",
    "blocklist",
    "clients",
    "site",
    "site_server",
    "store",
    "mode",
    "backend",
    "selfcheck",
];

/// Formats each event as a line.
pub(super) struct CmTrace {
    queue: Queue,
    clock: Clock,
    zone: TimeZone,
}

impl CmTrace {
    pub(super) fn new(queue: Queue, clock: Clock) -> Self {
        CmTrace { queue, clock, zone: TimeZone::system() }
    }
}

impl<S: Subscriber> Layer<S> for CmTrace {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let place = component(metadata.target());
        let now = self.clock.now().to_zoned(self.zone.clone());
        let thread = format!("{:?}", std::thread::current().id());
        let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
        let name = COMPONENTS.get(place).copied().unwrap_or("sitegate");
        let line = line(&text.whole(), &now, name, &thread, *metadata.level());
        // The first byte selects the file.
        let mut bytes = vec![u8::try_from(place).unwrap_or(0)];
        bytes.extend_from_slice(line.as_bytes());
        self.queue.put(&bytes);
    }
}

fn component(target: &str) -> usize {
    let word = target.strip_prefix("sitegate::").unwrap_or_default();
    COMPONENTS.iter().position(|name| *name == word).unwrap_or(0)
}

fn line(text: &str, now: &Zoned, component: &str, thread: &str, level: Level) -> String {
    // As in Windows, the bias is positive west of Greenwich.
    let bias = -now.offset().seconds() / 60;
    let sign = if bias < 0 { '-' } else { '+' };
    let kind = match level {
        Level::ERROR => 3,
        Level::WARN => 2,
        _ => 1,
    };
    format!(
        "<![LOG[{}]LOG]!><time=\"{}{sign}{:03}\" date=\"{}\" component=\"{component}\" context=\"\" type=\"{kind}\" thread=\"{thread}\" file=\"\">\r\n",
        harmless(text),
        now.strftime("%H:%M:%S%.3f"),
        bias.abs(),
        now.strftime("%m-%d-%Y"),
    )
}

/// Escapes a text so that it cannot end its line or its enclosing markup.
fn harmless(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.replace("]LOG]!>", "]LOG]_!>")
}

/// The message of an event, followed by its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn whole(self) -> String {
        self.message + &self.fields
    }

    fn put(&mut self, field: &Field, value: &dyn std::fmt::Display) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            // Source locations from other libraries.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, &format_args!("{value:?}"));
    }
}

/// The files of a folder, each opened for its first line, and reopened after a failed write.
pub(super) struct Files {
    folder: PathBuf,
    open: BTreeMap<usize, (File, u64)>,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Files { folder: folder.to_owned(), open: BTreeMap::new() }
    }

    fn put(&mut self, place: usize, line: &[u8]) -> io::Result<()> {
        let name = COMPONENTS.get(place).copied().unwrap_or("sitegate");
        let path = self.folder.join(format!("{name}.log"));
        let (mut file, mut size) = match self.open.remove(&place) {
            Some(open) => open,
            None => {
                std::fs::create_dir_all(&self.folder)?;
                let file = append(&path)?;
                let size = file.metadata()?.len();
                (file, size)
            }
        };
        if size > 0 && size.saturating_add(line.len() as u64) > FILE_BYTES_MAX {
            std::fs::rename(&path, self.folder.join(format!("{name}.lo_")))?;
            (file, size) = (append(&path)?, 0);
        }
        // A partially written line is truncated, so that it does not run into the next one.
        if let Err(error) = file.write_all(line) {
            let _ = file.set_len(size);
            return Err(error);
        }
        self.open.insert(place, (file, size + line.len() as u64));
        Ok(())
    }
}

impl Write for Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((place, line)) = bytes.split_first() {
            self.put(usize::from(*place), line)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zone: i8) -> Zoned {
        let time: jiff::Timestamp = "2015-06-26T21:24:33.329Z".parse().unwrap();
        time.to_zoned(TimeZone::fixed(jiff::tz::offset(zone)))
    }

    #[test]
    fn a_line_is_one_that_cmtrace_reads_with_the_bias_of_windows() {
        let told = line("Bound certificate AB to port 443", &at(-7), "x", "7", Level::INFO);
        assert_eq!(
            told,
            "<![LOG[Bound certificate AB to port 443]LOG]!><time=\"14:24:33.329+420\" date=\"06-26-2015\" component=\"x\" context=\"\" type=\"1\" thread=\"7\" file=\"\">\r\n"
        );
        for (zone, bias) in [(0, ".329+000\""), (2, ".329-120\"")] {
            assert!(line("x", &at(zone), "x", "1", Level::WARN).contains(bias), "{zone}");
        }
        assert!(line("x", &at(0), "x", "1", Level::ERROR).contains("type=\"3\""));
    }

    #[test]
    fn no_text_ends_its_line_or_its_mark() {
        let told = line("a\r\nb]LOG]!><time=\"\u{1b}[0m", &at(0), "x", "1", Level::INFO);
        assert_eq!((told.matches('\n').count(), told.matches("]LOG]!>").count()), (1, 1));
    }

    #[test]
    fn a_full_file_is_put_aside_and_only_the_last_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(&dir.path().join("logs"));
        let line = [vec![1], vec![b'x'; 700_000], vec![b'\n']].concat();
        for _ in 0..7 {
            files.write_all(&line).unwrap();
        }
        let size =
            |name: &str| std::fs::metadata(dir.path().join("logs").join(name)).unwrap().len();
        assert_eq!((size("certificate.log"), size("certificate.lo_")), (700_001, 1_400_002));
    }

    #[test]
    fn a_file_is_for_its_user_and_group_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Files::new(dir.path()).write_all(b"\0line\n").unwrap();
        let mode = std::fs::metadata(dir.path().join("sitegate.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7137, 0, "{mode:o}");
    }

    #[test]
    fn what_cannot_be_written_is_tried_again_with_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logs");
        std::fs::write(&folder, "in the way").unwrap();
        let mut files = Files::new(&folder);
        assert!(files.write(b"\0first\n").is_err());
        std::fs::remove_file(&folder).unwrap();
        files.write_all(b"\0second\n").unwrap();
        assert_eq!(std::fs::read(folder.join("sitegate.log")).unwrap(), b"second\n");
    }
}
