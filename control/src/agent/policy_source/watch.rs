//! When to read which file: as soon as the kernel says that it was closed or renamed, and no sooner.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{self, Instant},
};

use super::{Unfinished, is_policy_file, list, read_and_apply};
use crate::agent::Agent;

/// How soon a file that somebody is still writing is looked at again; its end is an event as well.
const BEING_WRITTEN: Duration = Duration::from_millis(300);
/// What has gone is gone if it is so after this time: tools replace a file by renaming it away first.
const REPLACED: Duration = Duration::from_millis(1);
/// What could not be put in force is tried again so soon.
const FAILED: Duration = Duration::from_secs(2);
/// A directory that cannot be watched is looked at so often.
const UNWATCHED: Duration = Duration::from_secs(1);
/// The directory is looked at so often whatever is heard: it may have been replaced, and so may files
/// outside of it that links in it lead to.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Follows the directory until the agent ends.
pub async fn watch(agent: Arc<Agent>) {
    let directory = agent.config.policy_dir.clone();
    let mut known = BTreeMap::new();
    let mut unfinished = Unfinished::default();
    let mut watcher = None;
    let mut told = false;
    let mut next_look = Instant::now();
    loop {
        if watcher.is_none() {
            watcher = match Watcher::new(&directory) {
                Ok(watcher) => Some(watcher),
                Err(error) if !told => {
                    tracing::warn!(directory = %directory.display(), %error, "cannot be watched");
                    None
                }
                Err(_) => None,
            };
            told = watcher.is_none();
            // From here on each change is heard; what was before is seen.
            let changed = changed_since(&directory, &mut known);
            next_look = Instant::now() + HEARTBEAT;
            unfinished = read_and_apply(&agent, changed).await;
        }
        let end = next_look.min(Instant::now() + unfinished.wait());
        let heard = match &mut watcher {
            Some(watcher) => time::timeout_at(end, watcher.next()).await,
            None => {
                time::sleep(UNWATCHED).await;
                Ok(Heard::Lost)
            }
        };
        let Unfinished { being_written: mut paths, failed } = std::mem::take(&mut unfinished);
        let mut look = Instant::now() >= next_look;
        match heard {
            Ok(Heard::Files(files)) => {
                look |= files.iter().any(|name| leads_elsewhere(&directory, name));
                paths.extend(files.into_iter().map(|name| directory.join(name)));
            }
            Ok(Heard::Lost) => watcher = None,
            Err(_) => {}
        }
        if look {
            next_look = Instant::now() + HEARTBEAT;
            if watcher.as_ref().is_some_and(|watcher| !watcher.is_of(&directory)) {
                watcher = None;
            }
            paths.extend(changed_since(&directory, &mut known));
        }
        paths.retain(|path| is_policy_file(path));
        if paths.is_empty() && !failed {
            continue;
        }
        if paths.iter().any(|path| !path.exists()) {
            let waited = pause(REPLACED).await;
            if waited.is_err() {
                time::sleep(REPLACED).await;
            }
        }
        unfinished = read_and_apply(&agent, paths).await;
    }
}

impl Unfinished {
    fn wait(&self) -> Duration {
        match (self.being_written.is_empty(), self.failed) {
            (false, _) => BEING_WRITTEN,
            (true, true) => FAILED,
            (true, false) => HEARTBEAT,
        }
    }
}

/// Whether what has that name now is a link that is no policy file: policy files may be links through
/// it, and have changed without being touched. Kubernetes updates a mounted volume so, with one
/// link (`..data`) that all others go through.
fn leads_elsewhere(directory: &Path, name: &Path) -> bool {
    let path = directory.join(name);
    !is_policy_file(&path) && path.is_symlink()
}

/// By the kernel's clock, without another thread: the runtime's rounds up to twice that.
async fn pause(duration: Duration) -> io::Result<()> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec {
            tv_sec: duration.as_secs().cast_signed(),
            tv_nsec: duration.subsec_nanos().into(),
        },
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    // SAFETY: an OwnedFd stays the same open descriptor for as long as the AsyncFd owns it.
    let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
    timer.readable().await.map(drop)
}

/// What tells a file's content from another one's without reading it.
type Stamp = (u64, u64, i64, i64, u64);

/// Files whose stamp is another than it was, or that came or went.
fn changed_since(directory: &Path, known: &mut BTreeMap<PathBuf, Stamp>) -> BTreeSet<PathBuf> {
    // One that is not there says nothing about its files: they stay in force.
    let Ok(paths) = list(directory) else { return BTreeSet::new() };
    let stamp = |path: PathBuf| {
        let found = fs::metadata(&path).ok()?;
        let stamp = (found.dev(), found.ino(), found.ctime(), found.ctime_nsec(), found.len());
        Some((path, stamp))
    };
    let now: BTreeMap<PathBuf, Stamp> = paths.into_iter().filter_map(stamp).collect();
    let all: BTreeSet<&PathBuf> = known.keys().chain(now.keys()).collect();
    let changed = all.into_iter().filter(|path| known.get(*path) != now.get(*path)).cloned().collect();
    *known = now;
    changed
}

enum Heard {
    /// Names of files that something has happened to.
    Files(BTreeSet<PathBuf>),
    /// Some events did not reach us, or the directory is gone.
    Lost,
}

struct Watcher {
    inotify: AsyncFd<Descriptor>,
    directory: (u64, u64),
}

struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watcher {
    fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // A link to a file is made, not written; what is created to be written is being written then.
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(directory, events)?;
        let found = fs::metadata(directory)?;
        // SAFETY: the descriptor is the instance's own and is closed only with it.
        let inotify = unsafe { AsyncFd::register_with_interest(Descriptor(inotify), Interest::READABLE) }?;
        Ok(Self { inotify, directory: (found.dev(), found.ino()) })
    }

    /// Whether the directory of that name is still the one that is watched.
    fn is_of(&self, directory: &Path) -> bool {
        fs::metadata(directory).is_ok_and(|found| (found.dev(), found.ino()) == self.directory)
    }

    async fn next(&mut self) -> Heard {
        let lost = AddWatchFlags::IN_Q_OVERFLOW
            | AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        loop {
            let Ok(mut ready) = self.inotify.readable().await else { return Heard::Lost };
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "events of the policy directory");
                    return Heard::Lost;
                }
            };
            if events.iter().any(|event| event.mask.intersects(lost)) {
                return Heard::Lost;
            }
            return Heard::Files(
                events.into_iter().filter_map(|event| event.name).map(PathBuf::from).collect(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_is_as_long_as_it_says() {
        for duration in [REPLACED, Duration::from_millis(1030)] {
            let since = Instant::now();
            pause(duration).await.unwrap();
            assert!(since.elapsed() >= duration);
        }
    }
}
