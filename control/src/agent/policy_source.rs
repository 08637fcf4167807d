//! The watched directory: what its files say is in force as long as they are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    Agent,
    error::AgentError,
    policies::{self, File, Policies, is_hidden},
};

mod watch;

pub use watch::watch;

/// Octets of a policy file that are read. As many as a request to the API may have.
const LONGEST: u64 = 32 << 20;

const EMPTIED: &str = "it is empty; delete it to take back what it held";

/// What policy files hold now; `None`: the file is gone.
pub type Contents = BTreeMap<PathBuf, Option<Result<String, String>>>;

/// What was read, and what somebody is writing at this moment.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    contents: Contents,
    being_written: BTreeSet<PathBuf>,
}

/// What is to be looked at again, and how soon.
#[derive(Debug, Default)]
struct Unfinished {
    being_written: BTreeSet<PathBuf>,
    /// What the files say could not be put in force. The files keep the reason, and are read again.
    failed: bool,
}

/// Reads these files and puts in force what has changed.
async fn read_and_apply(agent: &Agent, mut paths: BTreeSet<PathBuf>) -> Unfinished {
    let since = Instant::now();
    // What was refused because of another file may fit now.
    paths.extend(agent.state.lock().await.policies.refused_files());
    let reading = read_files(paths);
    let result = agent.apply_files(&reading.contents, since).await;
    if let Err(error) = &result {
        tracing::error!(%error, "policy files are not in force");
    }
    Unfinished { being_written: reading.being_written, failed: result.is_err() }
}

/// Brings the sources to what the directory holds when the agent starts. Files that are being written
/// right then follow. Returns the files whose content is another than remembered. An error where
/// neither a file nor the copy of its last good content is good: nobody knows what it closed.
pub fn read_at_start(directory: &Path, policies: &mut Policies) -> Result<Vec<PathBuf>, AgentError> {
    let failed = |error| AgentError::System(format!("cannot read {}: {error}", directory.display()));
    let mut paths = list(directory).map_err(failed)?;
    let damaged = policies.damaged().clone();
    paths.extend(policies.files().keys().chain(damaged.keys()).cloned());
    let mut reading = read_files(paths);
    let was_emptied = |path: &&PathBuf| matches!(reading.contents.get(*path), Some(Some(Ok(text))) if text.trim().is_empty());
    for path in damaged.keys().filter(was_emptied).cloned().collect::<Vec<_>>() {
        reading.contents.insert(path, Some(Err(EMPTIED.to_owned())));
    }
    let before: BTreeMap<PathBuf, String> =
        policies.files().iter().map(|(path, file)| (path.clone(), file.good.clone())).collect();
    take_in(policies, &reading.contents);
    for (path, file) in policies.files() {
        if let Some(error) = &file.error {
            tracing::error!(file = %path.display(), %error, "policy file refused");
        }
    }
    refuse_unknown(&damaged, policies, &reading)?;
    let now = |path: &PathBuf| policies.files().get(path).map(|file| &file.good);
    let differs = |path: &PathBuf| damaged.contains_key(path) || before.get(path) != now(path);
    Ok(reading.contents.into_keys().filter(differs).collect())
}

/// A file with a damaged copy must be good itself, or gone.
fn refuse_unknown(
    damaged: &BTreeMap<PathBuf, String>,
    policies: &Policies,
    reading: &Reading,
) -> Result<(), AgentError> {
    let mut details = Vec::new();
    for (path, reason) in damaged {
        let bad = match (reading.contents.get(path), policies.files().get(path)) {
            (Some(None), _) => None,
            (_, Some(file)) => file.error.clone(),
            (_, None) => Some("cannot be read now".to_owned()),
        };
        match bad {
            None => {
                tracing::warn!(file = %path.display(), reason, "the copy of its last good content is damaged and made anew");
            }
            Some(bad) => details.push(format!(
                "{}: {bad}; and the copy of its last good content is damaged: {reason}",
                path.display()
            )),
        }
    }
    if details.is_empty() {
        return Ok(());
    }
    let reason = "what these policy files had in force is not known; correct or delete them".to_owned();
    Err(AgentError::Refused { reason, details })
}

/// The policy files of the directory.
fn list(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let paths = fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    paths.filter(|path| path.as_ref().is_ok_and(|path| is_policy_file(path)) || path.is_err()).collect()
}

/// A file that somebody has open for writing keeps its last good content until it is closed: half a
/// policy may well be valid.
fn read_files(paths: BTreeSet<PathBuf>) -> Reading {
    let mut reading = Reading::default();
    for path in paths {
        let content = match read_file(&path) {
            Ok(Some(text)) => Some(Ok(text)),
            Ok(None) => {
                reading.being_written.insert(path);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A directory that is not there at all says nothing about its files: they stay in force.
                if !path.parent().is_some_and(Path::is_dir) {
                    continue;
                }
                None
            }
            Err(error) => Some(Err(error.to_string())),
        };
        reading.contents.insert(path, content);
    }
    reading
}

/// `None`: somebody is writing it.
fn read_file(path: &Path) -> io::Result<Option<String>> {
    // Without O_NONBLOCK, a pipe of that name would stop the agent until somebody writes into it.
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY);
    let file = match options.open(path) {
        // Who writes it has a lease on it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if is_being_written(&file) {
        return Ok(None);
    }
    let text = io::read_to_string((&file).take(LONGEST + 1))?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it is longer than {} MiB", LONGEST >> 20)));
    }
    // Opened and changed while we read?
    Ok((!is_being_written(&file)).then_some(text))
}

/// A read lease is granted only on files that nobody has open for writing. File systems without
/// leases say nothing, and the file is taken as it is.
fn is_being_written(file: &fs::File) -> bool {
    use std::os::fd::AsRawFd;
    let lease = |kind: i32| {
        // SAFETY: fcntl with F_SETLEASE takes an int and touches no memory of ours; the descriptor is
        // open for the length of the call.
        unsafe { nix::libc::fcntl(file.as_raw_fd(), nix::libc::F_SETLEASE, kind) }
    };
    if lease(nix::libc::F_RDLCK) == 0 {
        lease(nix::libc::F_UNLCK);
        return false;
    }
    io::Error::last_os_error().raw_os_error() == Some(nix::libc::EAGAIN)
}

pub fn is_policy_file(path: &Path) -> bool {
    let policy = path
        .extension()
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
    policy && !is_hidden(path)
}

/// Brings the sources to these contents. Files that are bad, or that name a document which another
/// source has, keep what they had, with the reason. Returns the files as they were, where they differ.
pub fn take_in(policies: &mut Policies, contents: &Contents) -> BTreeMap<PathBuf, Option<File>> {
    let mut before = BTreeMap::new();
    let mut set = |policies: &mut Policies, path: &PathBuf, file: Option<File>| {
        if policies.files().get(path) == file.as_ref() {
            return false;
        }
        let old = policies.set_file(path, file);
        before.entry(path.clone()).or_insert(old);
        true
    };
    for (path, _) in contents.iter().filter(|(_, content)| content.is_none()) {
        set(policies, path, None);
    }
    // A document may move from one file to another: a file refused at first may fit once the others
    // have changed.
    for _ in 0..=contents.len() {
        let mut settled = true;
        for (path, content) in contents.iter().filter_map(|(path, content)| Some((path, content.as_ref()?))) {
            let file = read_into(policies, path, content);
            settled &= !set(policies, path, Some(file));
        }
        if settled {
            break;
        }
    }
    before
}

fn read_into(policies: &Policies, path: &Path, content: &Result<String, String>) -> File {
    let last = policies.files().get(path);
    if let (Some(last), Ok(text)) = (last, content)
        && last.error.is_none()
        && last.good == *text
    {
        return last.clone();
    }
    let refused = |error: String| File { error: Some(error), ..last.cloned().unwrap_or_default() };
    let text = match content {
        Ok(text) => text,
        Err(error) => return refused(error.clone()),
    };
    // What a writer leaves that ended between truncating and writing. It must not lift a policy.
    if text.trim().is_empty() && last.is_some_and(|last| !last.documents.is_empty()) {
        return refused(EMPTIED.to_owned());
    }
    let name = path.display().to_string();
    let documents = match policies::parse(&name, text) {
        Ok(documents) => documents,
        Err(AgentError::Refused { details, .. }) => {
            // Who shows the error shows the file as well.
            let details = details.iter().map(|line| line.trim_start_matches(&format!("{name}: ")));
            return refused(details.collect::<Vec<_>>().join("; "));
        }
        Err(error) => return refused(error.to_string()),
    };
    for id in documents.keys() {
        if let Some(other) = policies.source_of(id, Some(path)) {
            return refused(format!("{id} is in {name} and in {other}; remove one"));
        }
    }
    File { documents, good: text.clone(), error: None }
}

#[cfg(test)]
mod tests;
