//! What the running kernel offers.

use aya::util::KernelVersion;

/// Probed once; shown by `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    pub kernel: (u8, u8, u16),
    /// Attaching tc programs by links (6.6); else by clsact filters.
    pub tcx: bool,
    pub ringbuf: bool,
    /// L7 policy on connections of host processes (5.9).
    pub sk_lookup: bool,
    pub netns_cookie: bool,
    /// Handing packets over between workloads (5.10).
    pub redirect_peer: bool,
    /// The time of the last tick, for less (5.11).
    pub coarse_clock: bool,
    /// The kernel's own type information.
    pub btf: bool,
}

impl Features {
    #[must_use]
    pub fn probe() -> Self {
        let version = KernelVersion::current().map_or(0, KernelVersion::code);
        let at_least = |major: u32, minor: u32| version >= (major << 16) + (minor << 8);
        Self {
            kernel: ((version >> 16) as u8, (version >> 8) as u8, (version & 0xff) as u16),
            tcx: at_least(6, 6),
            ringbuf: at_least(5, 8),
            sk_lookup: at_least(5, 9),
            netns_cookie: at_least(5, 8),
            redirect_peer: at_least(5, 10),
            coarse_clock: at_least(5, 11),
            btf: std::path::Path::new("/sys/kernel/btf/vmlinux").exists(),
        }
    }

    /// One line a feature, with what is used in its place.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (major, minor, patch) = self.kernel;
        let line = |name: &str, there: bool, yes: &str, no: &str| {
            format!("{name}: {}", if there { yes } else { no })
        };
        vec![
            format!("kernel: {major}.{minor}.{patch}"),
            line(
                "tc attachment",
                self.tcx,
                "tcx links, exchanged atomically",
                "clsact filters (tcx needs 6.6)",
            ),
            line("events", self.ringbuf, "ring buffer", "none (the ring buffer needs 5.8)"),
            line(
                "host processes at L7",
                self.sk_lookup && self.netns_cookie,
                "sk_lookup and cgroup connect",
                "none: their connections that need L7 are dropped (sk_lookup needs 5.9)",
            ),
            line(
                "between workloads",
                self.redirect_peer,
                "redirect_peer, past the node's stack, unless switched off",
                "through the node's stack (redirect_peer needs 5.10)",
            ),
            line("kernel BTF", self.btf, "yes", "no"),
        ]
    }
}
