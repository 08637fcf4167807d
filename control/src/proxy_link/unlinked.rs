//! Proxies that run and have lost their link. They go on by what they heard last, so none of them may
//! be left when a change is said to be in force.

use std::{os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep},
};

use super::{ProxyLink, Shared, session::Session, state::State};

/// How often is looked whether they are back.
const LOOK: Duration = Duration::from_millis(5);

/// A process that was alive when its link ended.
pub(super) struct Unlinked {
    pid: u32,
    instance: u64,
    pidfd: OwnedFd,
}

impl ProxyLink {
    /// The state, to be changed: nobody who judges by an older one is without a link. A process that
    /// does not dial in time is ended; what it would have judged is dropped until another one does.
    pub(super) async fn state_to_change(&self) -> MutexGuard<'_, Option<State>> {
        let end = Instant::now() + self.0.times.redial;
        loop {
            let state = self.0.state.lock().await;
            if self.0.all_are_linked() {
                return state;
            }
            if Instant::now() >= end {
                // Nothing that got SIGKILL runs on.
                self.0.unlinked().drain(..).for_each(|process| process.kill());
                return state;
            }
            // Whoever dials gets the state first.
            drop(state);
            sleep(LOOK).await;
        }
    }
}

impl Shared {
    /// Remembers a process that may go on without this link.
    pub(super) fn has_lost_link(&self, session: &Session) {
        let (pid, instance) = (session.pid(), session.instance());
        let pidfd = session.pidfd().and_then(|pidfd| pidfd.try_clone().ok());
        let process = pidfd.map(|pidfd| Unlinked { pid, instance, pidfd });
        self.unlinked().extend(process.filter(Unlinked::is_alive));
    }

    fn all_are_linked(&self) -> bool {
        let sessions = self.sessions();
        let mut unlinked = self.unlinked();
        unlinked.retain(|lost| {
            let is_it = |other: &Session| (other.pid(), other.instance()) == (lost.pid, lost.instance);
            lost.is_alive() && !sessions.iter().any(|other| is_it(other))
        });
        unlinked.is_empty()
    }
}

impl Unlinked {
    /// One that has ended and waits to be reaped is not.
    fn is_alive(&self) -> bool {
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut ended, Some(&at_once)), Ok(0))
    }

    /// Unless it is this process itself.
    fn kill(&self) {
        tracing::error!(pid = self.pid, "proxy has had no link for too long: killed");
        if self.pid != std::process::id()
            && let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL)
        {
            tracing::warn!(%error, pid = self.pid, "cannot kill the proxy");
        }
    }
}
