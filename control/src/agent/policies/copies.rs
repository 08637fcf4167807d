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
};

use super::{AgentError, unreadable};

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
    while let Ok(first) = copies.recv() {
        // What has come meanwhile goes to the disk together; of one file, the last.
        let batch: BTreeMap<OsString, Option<String>> =
            std::iter::once(first).chain(copies.try_iter()).collect();
        if let Err(error) = write_batch(directory, &batch) {
            tracing::error!(directory = %directory.display(), %error, "last good contents are not kept");
        }
    }
}

fn write_batch(directory: &Path, batch: &BTreeMap<OsString, Option<String>>) -> io::Result<()> {
    let mut written: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (name, content) in batch {
        let path = directory.join(name);
        match content {
            Some(content) => {
                let mut hidden = OsString::from(".");
                hidden.push(name);
                hidden.push(".tmp");
                let temporary = directory.join(hidden);
                std::fs::write(&temporary, content)?;
                written.push((temporary, path));
            }
            None => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
    }
    let directory = File::open(directory)?;
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    if !written.is_empty() && unsafe { nix::libc::syncfs(directory.as_raw_fd()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for (temporary, path) in written {
        std::fs::rename(temporary, path)?;
    }
    directory.sync_all()
}
