//! The watched directory: what its files say is in force as long as they are there.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecursiveMode, Watcher};
use tokio::{sync::mpsc, time};

use super::{
    Agent,
    error::AgentError,
    policies::{self, File, Policies, is_hidden},
};

/// A directory is read when nothing has happened in it for so long.
const QUIET: Duration = Duration::from_millis(150);
/// How soon a file that somebody is still writing is looked at again.
const BEING_WRITTEN: Duration = Duration::from_millis(300);
/// The directory is read so often even if nothing is heard: it may have been replaced.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Content of the directory's policy files.
type Contents = BTreeMap<PathBuf, Result<String, String>>;

/// Whether every file could be read, or some are being written at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Complete,
    BeingWritten,
}

/// Follows the directory until the agent ends.
pub async fn watch(agent: std::sync::Arc<Agent>) {
    let directory = agent.config.policy_dir.clone();
    let (sender, mut events) = mpsc::unbounded_channel();
    let heard = move |event: notify::Result<notify::Event>| {
        // Reading the files is an event as well, of no interest.
        if !matches!(
            event,
            Ok(notify::Event { kind: notify::EventKind::Access(notify::event::AccessKind::Open(_)), .. })
        ) {
            let _ = sender.send(());
        }
    };
    let mut watcher = match notify::recommended_watcher(heard) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "policy files are read every {} s only", HEARTBEAT.as_secs());
            None
        }
    };
    if let Some(watcher) = &mut watcher
        && let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive)
    {
        tracing::warn!(%error, "policy files are read every {} s only", HEARTBEAT.as_secs());
    }
    let mut wait = Duration::ZERO;
    loop {
        let _ = time::timeout(wait, events.recv()).await;
        while let Ok(Some(())) = time::timeout(QUIET, events.recv()).await {}
        wait = match read_and_apply(&agent).await {
            Reading::Complete => HEARTBEAT,
            Reading::BeingWritten => BEING_WRITTEN,
        };
        // Our own reading closed files: events that say nothing.
        while events.try_recv().is_ok() {}
    }
}

/// Reads the directory and puts in force what has changed.
pub async fn read_and_apply(agent: &Agent) -> Reading {
    let before = agent.state.lock().await.policies.files.clone();
    let (contents, reading) = match read(&agent.config.policy_dir, &before) {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(directory = %agent.config.policy_dir.display(), %error, "policy directory");
            return Reading::Complete;
        }
    };
    if let Err(error) = agent.apply_files(&contents).await {
        tracing::error!(%error, "policy files are not in force");
    }
    reading
}

/// The sources as they are when the agent starts. Files that are being written right then follow.
pub fn read_at_start(directory: &Path, before: &Policies) -> io::Result<Policies> {
    let (contents, _) = read(directory, &before.files)?;
    let next = with_files(before, &contents);
    for (path, file) in &next.files {
        if let Some(error) = &file.error {
            tracing::error!(file = %path.display(), %error, "policy file refused");
        }
    }
    Ok(next)
}

/// The directory's policy files. A file that somebody has open for writing keeps its last good
/// content until it is closed: half a policy may well be valid.
fn read(directory: &Path, before: &BTreeMap<PathBuf, File>) -> io::Result<(Contents, Reading)> {
    let mut contents = Contents::new();
    let mut reading = Reading::Complete;
    // One that is not there at all says nothing about its files: they stay in force.
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if !is_policy_file(&path) {
            continue;
        }
        let content = match read_file(&path) {
            Ok(Some(text)) => Ok(text),
            Ok(None) => {
                reading = Reading::BeingWritten;
                match before.get(&path) {
                    Some(file) => Ok(file.good.clone()),
                    None => continue,
                }
            }
            // Gone between listing and reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error.to_string()),
        };
        contents.insert(path, content);
    }
    Ok((contents, reading))
}

/// `None`: somebody is writing it.
fn read_file(path: &Path) -> io::Result<Option<String>> {
    let file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if is_being_written(&file) {
        return Ok(None);
    }
    let text = io::read_to_string(&file)?;
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

fn is_policy_file(path: &Path) -> bool {
    let policy = path
        .extension()
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
    policy && !is_hidden(path)
}

/// What the sources are once the files have these contents. Files that are bad, or that name a
/// document which another source has, keep what they had, with the reason.
pub fn with_files(before: &Policies, contents: &Contents) -> Policies {
    let mut next = before.clone();
    next.files.retain(|path, _| contents.contains_key(path));
    // A document may move from one file to another: a file refused at first may fit once the others
    // have changed.
    for _ in 0..=contents.len() {
        let mut settled = true;
        for (path, content) in contents {
            let file = read_into(&next, path, content);
            if next.files.get(path) != Some(&file) {
                next.files.insert(path.clone(), file);
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    next
}

fn read_into(policies: &Policies, path: &Path, content: &Result<String, String>) -> File {
    let last = policies.files.get(path).cloned().unwrap_or_default();
    let text = match content {
        Ok(text) => text,
        Err(error) => return File { error: Some(error.clone()), ..last },
    };
    // What a writer leaves that ended between truncating and writing. It must not lift a policy.
    if text.trim().is_empty() && !last.documents.is_empty() {
        let error = "it is empty; delete it to take back what it held".to_owned();
        return File { error: Some(error), ..last };
    }
    let name = path.display().to_string();
    let documents = match policies::parse(&name, text) {
        Ok(documents) => documents,
        Err(AgentError::Refused { details, .. }) => {
            // Who shows the error shows the file as well.
            let details = details.iter().map(|line| line.trim_start_matches(&format!("{name}: ")));
            return File { error: Some(details.collect::<Vec<_>>().join("; ")), ..last };
        }
        Err(error) => return File { error: Some(error.to_string()), ..last },
    };
    for id in documents.keys() {
        if let Some(other) = policies.source_of(id, Some(path)) {
            let error = format!("{id} is in {name} and in {other}; remove one");
            return File { error: Some(error), ..last };
        }
    }
    File { documents, good: text.clone(), error: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> String {
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{endpointSelector: {{}}, ingress: [{{fromEndpoints: [{{}}]}}]}}\n"
        )
    }

    fn contents(files: &[(&str, &str)]) -> Contents {
        files.iter().map(|(path, text)| (PathBuf::from(path), Ok((*text).to_owned()))).collect()
    }

    fn names(policies: &Policies) -> Vec<String> {
        policies.iter().map(|(source, given)| format!("{source} {}", given.document.id.name)).collect()
    }

    #[test]
    fn a_bad_file_keeps_its_last_good_content_and_a_deleted_one_is_gone() {
        let good = with_files(&Policies::default(), &contents(&[("/p/a.yaml", &policy("one"))]));
        assert_eq!(names(&good), ["/p/a.yaml one"]);
        let bad = with_files(&good, &contents(&[("/p/a.yaml", "spec: [")]));
        assert_eq!(names(&bad), ["/p/a.yaml one"]);
        assert!(bad.files[Path::new("/p/a.yaml")].error.is_some());
        let repaired = with_files(&bad, &contents(&[("/p/a.yaml", &policy("two"))]));
        assert_eq!(names(&repaired), ["/p/a.yaml two"]);
        assert_eq!(repaired.files[Path::new("/p/a.yaml")].error, None);
        assert!(names(&with_files(&repaired, &Contents::new())).is_empty());
    }

    #[test]
    fn a_file_that_was_emptied_holds_what_it_held() {
        let good = with_files(&Policies::default(), &contents(&[("/p/a.yaml", &policy("one"))]));
        for empty in ["", "\n", "  \n\n"] {
            let emptied = with_files(&good, &contents(&[("/p/a.yaml", empty)]));
            assert_eq!(names(&emptied), ["/p/a.yaml one"]);
            assert!(emptied.files[Path::new("/p/a.yaml")].error.is_some());
        }
        // A new file may well be empty, and one that says nothing on purpose holds nothing.
        let new = with_files(&Policies::default(), &contents(&[("/p/a.yaml", "")]));
        assert_eq!(new.files[Path::new("/p/a.yaml")].error, None);
        assert!(names(&with_files(&good, &contents(&[("/p/a.yaml", "# nothing")]))).is_empty());
    }

    /// Whoever renames a new file over the old one, and whoever truncates and writes: a reader gets a
    /// whole content or is told that there is none now.
    #[test]
    fn a_file_that_is_replaced_while_it_is_read_is_read_whole() {
        use std::sync::atomic::{AtomicBool, Ordering};

        use nix::sys::signal::{SigHandler, Signal, signal};
        // As the agent does: who opens a file while its lease is held causes one.
        // SAFETY: ignoring a signal installs no handler that could run.
        unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        let whole = ["one".repeat(40_000), "two".repeat(40_000)];
        fs::write(&path, &whole[0]).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let new = directory.path().join(".a.yaml.new");
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let text = &whole[round / 2 % 2];
                    if round % 2 == 0 {
                        fs::write(&new, text).unwrap();
                        fs::rename(&new, &path).unwrap();
                    } else {
                        fs::write(&path, text).unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let mut texts = Vec::new();
            while texts.len() < 100 {
                texts.extend(read_file(&path).ok().flatten());
            }
            over.store(true, Ordering::Relaxed);
            assert!(texts.iter().all(|text| whole.contains(text)));
        });
    }

    #[test]
    fn a_file_that_was_never_good_has_an_error_and_no_effect() {
        let policies = with_files(&Policies::default(), &contents(&[("/p/a.yaml", "kind: [")]));
        assert!(names(&policies).is_empty());
        assert!(policies.files[Path::new("/p/a.yaml")].error.is_some());
    }

    #[test]
    fn one_document_in_two_places_is_refused_with_both_named() {
        let one = policy("one");
        let policies =
            with_files(&Policies::default(), &contents(&[("/p/a.yaml", &one), ("/p/b.yaml", &one)]));
        assert_eq!(names(&policies), ["/p/a.yaml one"]);
        let error = policies.files[Path::new("/p/b.yaml")].error.as_deref().unwrap();
        assert!(error.contains("/p/a.yaml") && error.contains("/p/b.yaml"), "{error}");
        // The other one may have it once the first is gone.
        let policies = with_files(&policies, &contents(&[("/p/b.yaml", &one)]));
        assert_eq!(names(&policies), ["/p/b.yaml one"]);
    }

    #[test]
    fn documents_may_swap_files() {
        let (one, two) = (policy("one"), policy("two"));
        let before = with_files(&Policies::default(), &contents(&[("/p/a.yaml", &one), ("/p/b.yaml", &two)]));
        let both = format!("{one}---\n{two}");
        let moved = with_files(&before, &contents(&[("/p/a.yaml", &both), ("/p/b.yaml", "# moved")]));
        assert_eq!(names(&moved), ["/p/a.yaml one", "/p/a.yaml two"]);
        assert!(moved.files.values().all(|file| file.error.is_none()));
    }

    #[test]
    fn editors_files_are_ignored() {
        for other in [".a.yaml.swp", ".#a.yaml", "a.yaml~", "a.yaml.bak", "a.txt", "4913", ".a.yaml"] {
            assert!(!is_policy_file(&Path::new("/p").join(other)), "{other}");
        }
        for good in ["a.yaml", "a.yml", "a.json"] {
            assert!(is_policy_file(&Path::new("/p").join(good)), "{good}");
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone_until_it_is_closed() {
        use std::io::Write;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        let mut writer = fs::File::create(&path).unwrap();
        write!(writer, "half").unwrap();
        let (contents, reading) = read(directory.path(), &BTreeMap::new()).unwrap();
        assert_eq!((contents.len(), reading), (0, Reading::BeingWritten));
        write!(writer, " and whole").unwrap();
        drop(writer);
        let (contents, reading) = read(directory.path(), &BTreeMap::new()).unwrap();
        assert_eq!(contents[&path].as_deref(), Ok("half and whole"));
        assert_eq!(reading, Reading::Complete);
    }

    #[test]
    fn the_state_directory_brings_back_the_apis_documents_and_the_last_good_files() {
        let state = tempfile::tempdir().unwrap();
        let empty = Policies::load(state.path()).unwrap();
        let mut next = with_files(&empty, &contents(&[("/p/a.yaml", &policy("one"))]));
        next.api.extend(policies::parse("request", &policy("two")).unwrap());
        next.save(&empty).unwrap();
        let loaded = Policies::load(state.path()).unwrap();
        assert_eq!(names(&loaded), ["api two", "/p/a.yaml one"]);
        let bad = with_files(&loaded, &contents(&[("/p/a.yaml", "spec: [")]));
        assert_eq!(names(&bad), ["api two", "/p/a.yaml one"]);
        let mut less = loaded.clone();
        less.api.clear();
        less.save(&loaded).unwrap();
        assert_eq!(names(&Policies::load(state.path()).unwrap()), ["/p/a.yaml one"]);
    }
}
