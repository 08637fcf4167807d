//! Room for the connections' file descriptors.

use nix::libc;

use crate::{kafka::PIPES, options::Limits};

/// Descriptors that are no connection's: maps, listeners, the link, logs.
const OTHERS: u64 = 256;

/// Both ends of the pipes of a thread.
const PIPE_ENDS: usize = 2 * PIPES;

/// Raises the limit of open files so that every thread may have its connections and sockets to servers,
/// and makes `limits` fit into what the system grants.
pub(super) fn make_room(threads: usize, limits: &mut Limits) {
    let of_a_thread =
        limits.connections_per_thread.saturating_add(limits.upstreams_per_thread).saturating_add(PIPE_ENDS);
    let wanted = (threads as u64).saturating_mul(of_a_thread as u64).saturating_add(OTHERS);
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit, or fails.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    // Above the hard limit only with CAP_SYS_RESOURCE, and never above the system's own.
    for (soft, hard) in [(wanted, limit.rlim_max.max(wanted)), (wanted.min(limit.rlim_max), limit.rlim_max)] {
        let raised = libc::rlimit { rlim_cur: soft.max(limit.rlim_cur), rlim_max: hard };
        // SAFETY: the kernel reads one rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
            break;
        }
    }
    let files = limit.rlim_cur.saturating_sub(OTHERS) / threads as u64;
    share(usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(PIPE_ENDS), limits);
}

/// Where there are too few for all, clients get the larger part: most of them ask for nothing at a time.
fn share(files: usize, limits: &mut Limits) {
    let (connections, upstreams) = (limits.connections_per_thread, limits.upstreams_per_thread);
    if files >= connections.saturating_add(upstreams) {
        return;
    }
    let least = (files / 5 * 2).min(upstreams);
    limits.connections_per_thread = connections.min(files - least).max(1);
    limits.upstreams_per_thread = upstreams.min(files.saturating_sub(limits.connections_per_thread)).max(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_all_or_as_many_as_fit() {
        let mut limits =
            Limits { connections_per_thread: 700, upstreams_per_thread: 700, ..Limits::default() };
        make_room(2, &mut limits);
        let granted = limits.connections_per_thread + limits.upstreams_per_thread;
        assert!((2..=1400).contains(&granted));
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one rlimit.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        assert!(limit.rlim_cur >= 2 * granted as u64, "{granted} sockets, {} files", limit.rlim_cur);
    }

    #[test]
    fn clients_get_more_than_servers() {
        for (files, wanted, granted) in [
            (50_000, (20_000, 20_000), (20_000, 20_000)),
            (20_000, (20_000, 20_000), (12_000, 8_000)),
            (20_000, (15_000, 20_000), (12_000, 8_000)),
            (20_000, (10_000, 20_000), (10_000, 10_000)),
            (20_000, (20_000, 100), (19_900, 100)),
            (0, (20_000, 20_000), (1, 1)),
        ] {
            let mut limits = Limits {
                connections_per_thread: wanted.0,
                upstreams_per_thread: wanted.1,
                ..Limits::default()
            };
            share(files, &mut limits);
            assert_eq!((limits.connections_per_thread, limits.upstreams_per_thread), granted, "{files}");
        }
    }
}
