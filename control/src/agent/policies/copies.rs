//! Copies of the watched files' last good contents, written while the agent goes on: they are read
//! only where a file is bad when the agent starts.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{AgentError, unreadable};

/// What could not be written is tried again after this time, or with the next change.
const AGAIN: Duration = Duration::from_secs(5);

/// A file's name, and its content or that it is gone.
type Copy = (OsString, Option<String>);

/// A thread that writes one batch after the other, each file as a whole or not at all.
#[derive(Debug)]
pub struct Copies {
    sender: Option<mpsc::Sender<Copy>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Copies {
    pub fn open(directory: &Path) -> Result<Self, AgentError> {
        std::fs::create_dir_all(directory).map_err(|source| unreadable(directory, &source))?;
        let (sender, receiver) = mpsc::channel();
        let directory = directory.to_owned();
        let writer = thread::Builder::new().name("policy-copies".to_owned());
        let writer = writer
            .spawn(move || write_all(&directory, &receiver))
            .map_err(|error| AgentError::System(format!("cannot start a thread: {error}")))?;
        Ok(Self { sender: Some(sender), writer: Some(writer) })
    }

    pub fn keep(&self, name: &OsStr, content: Option<String>) {
        let told = self.sender.as_ref().map(|sender| sender.send((name.to_owned(), content)));
        if !matches!(told, Some(Ok(()))) {
            tracing::error!(file = %name.display(), "its last good content is not kept");
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        drop(self.sender.take());
        let _ = self.writer.take().map(thread::JoinHandle::join);
    }
}

fn write_all(directory: &Path, copies: &mpsc::Receiver<Copy>) {
    let mut wanted: BTreeMap<OsString, Option<String>> = BTreeMap::new();
    loop {
        let told = match wanted.is_empty() {
            true => copies.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            false => copies.recv_timeout(AGAIN),
        };
        let over = matches!(told, Err(mpsc::RecvTimeoutError::Disconnected));
        // What has come meanwhile goes to the disk together; of one file, the last.
        wanted.extend(told.into_iter().chain(copies.try_iter()));
        if let Err(error) = write_batch(directory, &mut wanted) {
            tracing::error!(directory = %directory.display(), %error, "last good contents are not kept");
        }
        if over {
            return;
        }
    }
}

/// Takes out of `wanted` what is on the disk. One file that cannot be written keeps no other from it.
fn write_batch(directory: &Path, wanted: &mut BTreeMap<OsString, Option<String>>) -> io::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut failed = Ok(());
    let mut written: Vec<(PathBuf, &OsString)> = Vec::new();
    let mut done: Vec<OsString> = Vec::new();
    for (place, (name, content)) in wanted.iter().enumerate() {
        let result = match content {
            Some(content) => {
                // Not the file's name and more, which may be too long for a name.
                let temporary = directory.join(format!(".{place}.tmp"));
                std::fs::write(&temporary, content).map(|()| written.push((temporary, name)))
            }
            None => match std::fs::remove_file(directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => {
                    done.push(name.clone());
                    Ok(())
                }
            },
        };
        failed = failed.and(result);
    }
    let directory_itself = File::open(directory)?;
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    if !written.is_empty() && unsafe { nix::libc::syncfs(directory_itself.as_raw_fd()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for (temporary, name) in written {
        let result = std::fs::rename(temporary, directory.join(name));
        done.extend(result.is_ok().then(|| name.clone()));
        failed = failed.and(result);
    }
    directory_itself.sync_all()?;
    done.iter().for_each(|name| _ = wanted.remove(name));
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_tried_again_and_keeps_no_other_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let kept = |name: &str| std::fs::read_to_string(path(name)).ok();
        let long = "n".repeat(250) + ".yaml";
        std::fs::create_dir(path("b.yaml")).unwrap();
        let contents =
            ["a.yaml", "b.yaml", "c.yaml", &long].map(|name| (name.into(), Some("good".to_owned())));
        let mut wanted = BTreeMap::from(contents);
        assert!(write_batch(directory.path(), &mut wanted).is_err());
        assert_eq!(wanted.keys().collect::<Vec<_>>(), ["b.yaml"]);
        for name in ["a.yaml", "c.yaml", &long] {
            assert_eq!(kept(name).as_deref(), Some("good"), "{name}");
        }
        std::fs::remove_dir(path("b.yaml")).unwrap();
        write_batch(directory.path(), &mut wanted).unwrap();
        assert!(wanted.is_empty());
        assert_eq!(kept("b.yaml").as_deref(), Some("good"));
        let mut wanted = BTreeMap::from([("a.yaml".into(), None), ("never.yaml".into(), None)]);
        write_batch(directory.path(), &mut wanted).unwrap();
        assert!(wanted.is_empty() && kept("a.yaml").is_none());
    }
}
