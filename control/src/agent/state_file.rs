//! Files of the state directory: replaced as a whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {reason}. Restore it, or remove it to start without what it held")]
    Damaged { path: PathBuf, reason: serde_json::Error },
}

/// Reads a JSON file. `None`: there is none yet. A damaged one is an error: nobody should lose
/// endpoints or policies in silence.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateFileError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateFileError::Io { action: "read", path: path.to_owned(), source }),
    };
    let value = serde_json::from_slice(&bytes)
        .map_err(|reason| StateFileError::Damaged { path: path.to_owned(), reason })?;
    Ok(Some(value))
}

/// Replaces a JSON file.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), StateFileError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|reason| StateFileError::Damaged { path: path.to_owned(), reason })?;
    write_bytes(path, &bytes)
}

/// Replaces a file: a temporary file beside it, synced, renamed over it, and the directory synced.
/// Whoever reads sees the old content or the new, also after a power cut.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), StateFileError> {
    let failed = |action| move |source| StateFileError::Io { action, path: path.to_owned(), source };
    let directory = path.parent().unwrap_or(Path::new("."));
    // A leading dot: nothing that lists the directory takes it for a file of its own.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.tmp"));
    let mut file = File::create(&temporary).map_err(failed("create a temporary file for"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    fs::rename(&temporary, path).map_err(failed("replace"))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync the directory of"))
}

/// Removes a file; one that is not there is fine.
pub fn remove(path: &Path) -> Result<(), StateFileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StateFileError::Io { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.json");
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), None);
        write(&path, &vec![1u32, 2]).unwrap();
        write(&path, &vec![3u32]).unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), None);
    }

    /// Not a test of its own: what the next one kills.
    #[test]
    #[ignore = "writes until it is killed"]
    fn writer() {
        let path = std::env::var_os("STATE_FILE_TEST").expect("set by the test that starts this one");
        for n in 0u32.. {
            write(Path::new(&path), &vec![n; 20_000]).unwrap();
        }
    }

    #[test]
    fn a_writer_that_is_killed_leaves_a_whole_file() {
        use std::process::{Command, Stdio};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.json");
        write(&path, &Vec::<u32>::new()).unwrap();
        let mut newest = 0;
        for round in 0..20u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "agent::state_file::tests::writer", "--ignored"])
                .env("STATE_FILE_TEST", &path)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20 + round * 7 % 31));
            child.kill().unwrap();
            child.wait().unwrap();
            let numbers = read::<Vec<u32>>(&path).unwrap().expect("a file");
            assert!(numbers.is_empty() || numbers.len() == 20_000, "{} numbers", numbers.len());
            assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]));
            newest = newest.max(numbers.first().copied().unwrap_or(0));
        }
        assert!(newest > 0, "nothing was ever written");
    }

    #[test]
    fn no_beginning_of_a_file_is_taken_for_the_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.json");
        write(&path, &std::collections::BTreeMap::from([("one", [1u32]), ("two", [2])])).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let error = read::<std::collections::BTreeMap<String, Vec<u32>>>(&path).unwrap_err();
            assert!(error.to_string().contains("is damaged"), "cut at {cut}: {error}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.json");
        fs::write(&path, "[1, 2").unwrap();
        let error = read::<Vec<u32>>(&path).unwrap_err();
        assert!(error.to_string().contains("numbers.json is damaged"), "{error}");
    }
}
