//! What starting has left in memory.

use std::{fs, path::Path};

use nix::libc;

/// Gives back the pages of the program's own text and constants, most of which only the start
/// needed, and the heap's free ones. The kernel maps what is used again from its page cache.
pub fn forget() {
    for mapping in clean_mappings() {
        // SAFETY: the mapping is of a file, not writable, and has no pages of its own (smaps, Anonymous):
        // each page that is dropped has the same content when it is read again.
        unsafe { libc::madvise(mapping.start as *mut libc::c_void, mapping.octets, libc::MADV_DONTNEED) };
    }
    // SAFETY: glibc's; takes its own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    octets: usize,
}

fn clean_mappings() -> Vec<Mapping> {
    let (Ok(smaps), Ok(program)) = (fs::read_to_string("/proc/self/smaps"), fs::read_link("/proc/self/exe"))
    else {
        return Vec::new();
    };
    clean_in(&smaps, &program)
}

/// The mappings of `program` in the text of `/proc/PID/smaps` (proc_pid_smaps(5)) that cannot be written
/// and have nothing but the file's pages.
fn clean_in(smaps: &str, program: &Path) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("Anonymous:") if words.next() == Some("0") => found.extend(candidate.take()),
            Some(range) if !range.ends_with(':') => {
                let (permissions, path) = (words.next(), words.nth(3));
                let own = path.is_some_and(|path| Path::new(path) == program);
                candidate = matches!(permissions, Some("r-xp" | "r--p")).then(|| parse(range)).flatten();
                candidate = candidate.filter(|_| own);
            }
            _ => {}
        }
    }
    found
}

fn parse(range: &str) -> Option<Mapping> {
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some(Mapping { start, octets: end.checked_sub(start)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_has_is_forgotten() {
        let smaps = "\
1000-3000 r--p 00000000 08:01 7 /opt/tektin
Rss: 8 kB
Anonymous: 0 kB
3000-4000 r-xp 00002000 08:01 7 /opt/tektin
Anonymous:             0 kB
4000-5000 r--p 00003000 08:01 7 /opt/tektin
Anonymous: 4 kB
5000-6000 rw-p 00004000 08:01 7 /opt/tektin
Anonymous: 0 kB
6000-7000 r-xp 00000000 08:01 8 /usr/lib/libc.so.6
Anonymous: 0 kB
8000-9000 r--p 00000000 00:00 0
Anonymous: 0 kB
";
        assert_eq!(
            clean_in(smaps, Path::new("/opt/tektin")),
            [Mapping { start: 0x1000, octets: 0x2000 }, Mapping { start: 0x3000, octets: 0x1000 }]
        );
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        assert!(!clean_mappings().is_empty());
        forget();
        assert!(format!("{:?}", clean_mappings()).contains("Mapping"));
    }
}
