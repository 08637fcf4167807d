//! How much memory the process has.

/// Octets of resident memory; 0 where the kernel does not say.
pub(super) fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages.saturating_mul(
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .map_or(4096, |size| usize::try_from(size).unwrap_or(4096)),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_says_how_much() {
        let before = super::resident();
        assert!(before > 1 << 20, "{before}");
        let held = vec![1_u8; 64 << 20];
        assert!(super::resident() > before + (32 << 20));
        drop(std::hint::black_box(held));
    }
}
