//! Files of the state directory that grow by a line a change: what a change costs does not depend on
//! what the file holds. A line that was not written to its end when the process or the machine
//! stopped never happened; the file is written anew once most of its lines are of the past.
//!
//! Lines are not synced to the disk one by one: a number that a power cut takes away was nobody's any
//! more, for no kernel map outlives the boot.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

use super::state_file::{self, StateFileError};

/// Lines of the past that are not worth a new file.
const PAST: usize = 1024;

/// JSON values, one a line.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
}

impl Journal {
    /// Opens the file, which need not exist yet, and reads its lines. One that is damaged is an error,
    /// but for the end of the last.
    pub fn open<T: DeserializeOwned>(path: PathBuf) -> Result<(Self, Vec<T>), StateFileError> {
        let failed = |action| {
            let path = path.clone();
            move |source| StateFileError::Io { action, path, source }
        };
        let mut options = OpenOptions::new();
        let file = options.append(true).read(true).create(true).open(&path).map_err(failed("open"))?;
        let mut text = Vec::new();
        (&file).read_to_end(&mut text).map_err(failed("read"))?;
        let whole = text.iter().rposition(|octet| *octet == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            tracing::warn!(path = %path.display(), "the last line was not finished and is left out");
            file.set_len(whole as u64).map_err(failed("cut"))?;
        }
        let values = text[..whole]
            .split_inclusive(|octet| *octet == b'\n')
            .map(|line| serde_json::from_slice(line))
            .collect::<Result<Vec<T>, _>>()
            .map_err(|reason| StateFileError::Damaged { path: path.clone(), reason })?;
        Ok((Self { path, file, lines: values.len() }, values))
    }

    /// Adds lines, all or none.
    pub fn append<T: Serialize>(&mut self, values: &[T]) -> Result<(), StateFileError> {
        if values.is_empty() {
            return Ok(());
        }
        let text = self.text(values)?;
        let before = self.file.metadata().map(|known| known.len());
        let written = before
            .and_then(|before| self.file.write_all(&text).inspect_err(|_| drop(self.file.set_len(before))));
        let failed = |source| StateFileError::Io { action: "write", path: self.path.clone(), source };
        written.map_err(failed)?;
        self.lines += values.len();
        Ok(())
    }

    /// Whether most lines are of the past, `live` being what is still true.
    pub fn is_old(&self, live: usize) -> bool {
        self.lines > 2 * live + PAST
    }

    /// Starts anew with these lines.
    pub fn rewrite<T: Serialize>(&mut self, values: &[T]) -> Result<(), StateFileError> {
        state_file::write_bytes(&self.path, &self.text(values)?)?;
        let failed = |source| StateFileError::Io { action: "open", path: self.path.clone(), source };
        self.file = OpenOptions::new().append(true).open(&self.path).map_err(failed)?;
        self.lines = values.len();
        Ok(())
    }

    fn text<T: Serialize>(&self, values: &[T]) -> Result<Vec<u8>, StateFileError> {
        let mut text = Vec::new();
        for value in values {
            let failed = |reason| StateFileError::Damaged { path: self.path.clone(), reason };
            serde_json::to_writer(&mut text, value).map_err(failed)?;
            text.push(b'\n');
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_and_half_a_line_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.log");
        let (mut journal, values) = Journal::open::<u32>(path.clone()).unwrap();
        assert!(values.is_empty());
        journal.append(&[1, 2]).unwrap();
        journal.append(&[3]).unwrap();
        for cut in [b"4".as_slice(), b"{\"", b"\xff"] {
            let before = std::fs::read(&path).unwrap();
            std::fs::write(&path, [&before, cut].concat()).unwrap();
            let (mut journal, values) = Journal::open::<u32>(path.clone()).unwrap();
            assert_eq!(values[..3], [1, 2, 3]);
            journal.append(&[9]).unwrap();
        }
        assert_eq!(Journal::open::<u32>(path.clone()).unwrap().1, [1, 2, 3, 9, 9, 9]);
        journal.rewrite(&[7]).unwrap();
        journal.append(&[8]).unwrap();
        assert_eq!(Journal::open::<u32>(path.clone()).unwrap().1, [7, 8]);
        std::fs::write(&path, "1\nx\n2\n").unwrap();
        assert!(Journal::open::<u32>(path).unwrap_err().to_string().contains("damaged"));
    }
}
