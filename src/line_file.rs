//! Files of lines that only grow until they are replaced as a whole. A line that a crash has cut
//! short is as if it had never been written.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Appends a line to a file, which must exist, and syncs it to disk. What remains of a line that
/// was cut short is removed first. Returns the length of the file, in bytes.
///
/// # Errors
/// The file system's error; [`io::ErrorKind::NotFound`] if there is no file.
pub fn append_line(path: &Path, line: &[u8]) -> io::Result<u64> {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let end = end_of_lines(&mut file)?;
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line);
    bytes.push(b'\n');
    let written = file.write_all(&bytes).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // A full disk: the next line must not continue this one.
        let _ = file.set_len(end);
        return Err(error);
    }
    Ok(end + u64::try_from(bytes.len()).unwrap_or_default())
}

/// The lines of a file's bytes, without one that was cut short.
pub fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

/// The place after the last line end.
fn end_of_lines(file: &mut fs::File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = [0; 4096];
    while end > 0 {
        let len = end.min(4096);
        let start = end - len;
        let part = block.get_mut(..usize::try_from(len).unwrap_or_default()).unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(at).unwrap_or_default() + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_short_is_replaced_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let long = "x".repeat(10_000);
        for (held, expected) in [
            ("", "new\n".to_owned()),
            ("half", "new\n".to_owned()),
            ("one\n", "one\nnew\n".to_owned()),
            ("one\ntwo\nha", "one\ntwo\nnew\n".to_owned()),
            (&format!("one\n{long}"), "one\nnew\n".to_owned()),
            (&format!("{long}\nhalf"), format!("{long}\nnew\n")),
        ] {
            fs::write(&path, held).unwrap();
            let len = append_line(&path, b"new").unwrap();
            let read = fs::read_to_string(&path).unwrap();
            assert_eq!((read.len() as u64, &read), (len, &expected));
        }
    }

    #[test]
    fn a_missing_file_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let error = append_line(&dir.path().join("none"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn lines_are_those_with_an_end() {
        let lines: Vec<&[u8]> = whole_lines(b"one\n\ntwo\nhalf").collect();
        assert_eq!(lines, [b"one".as_slice(), b"", b"two"]);
        assert_eq!(whole_lines(b"").count(), 0);
    }
}
