//! Room for the connections' file descriptors.

use nix::libc;

/// Descriptors that are no connection's: maps, listeners, the link, logs.
const OTHERS: u64 = 256;

/// Raises the limit of open files so that every thread may have `connections`, each with a socket to
/// the server. Returns how many connections a thread may have with what the system grants.
pub(super) fn make_room(threads: usize, connections: usize) -> usize {
    let a_pair_for_all = 2 * threads as u64;
    let wanted = a_pair_for_all * connections as u64 + OTHERS;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit, or fails.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return connections;
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
    let room = limit.rlim_cur.saturating_sub(OTHERS) / a_pair_for_all;
    usize::try_from(room).unwrap_or(usize::MAX).clamp(1, connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_all_or_as_many_as_fit() {
        let granted = make_room(2, 700);
        assert!((1..=700).contains(&granted));
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one rlimit.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        assert!(limit.rlim_cur >= 4 * granted as u64, "{granted} connections, {} files", limit.rlim_cur);
    }
}
