//! Links that are pinned by name, so that a program goes on when this process ends.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use tektin_abi::maps::PIN_VERSION;

use crate::{attach::Attachment, sys};

/// `enum bpf_attach_type` (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    CgroupConnect4 = 10,
    CgroupConnect6 = 11,
    SkLookup = 36,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// What a link is attached to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    Device(u32),
    Netns(BorrowedFd<'a>),
    Cgroup(BorrowedFd<'a>),
}

pub(crate) fn links_dir(pin_dir: &Path) -> PathBuf {
    pin_dir.join(PIN_VERSION).join("links")
}

/// The pin of `program` on `target`, a device's name or `host`. A bpffs refuses dots in names.
pub(crate) fn pin_path(pin_dir: &Path, program: &str, target: &str) -> PathBuf {
    let target = target.replace('%', "%25").replace('.', "%2e");
    links_dir(pin_dir).join(format!("{program}@{target}"))
}

/// Program and target of a pin.
pub(crate) fn parse_pin(path: &Path) -> Option<(String, String)> {
    let (program, target) = path.file_name()?.to_str()?.split_once('@')?;
    Some((program.to_owned(), target.replace("%2e", ".").replace("%25", "%")))
}

/// Brings `program` to `target`: through the pinned link where that still holds there (in one step,
/// so that no packet goes unjudged), else by a new link.
pub(crate) fn attach(
    path: &Path,
    program: BorrowedFd<'_>,
    hook: Hook,
    target: Target<'_>,
) -> io::Result<Attachment> {
    match sys::object(path) {
        Ok(link) if holds(link.as_fd(), target)? => {
            sys::link_update(link.as_fd(), program)?;
            return Ok(Attachment::Updated);
        }
        // The device or namespace it was for is gone.
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let number = match target {
        Target::Device(ifindex) => ifindex,
        Target::Netns(fd) | Target::Cgroup(fd) => fd.as_raw_fd() as u32,
    };
    let link = sys::link_create(program, number, hook as u32)?;
    sys::pin(link.as_fd(), path)?;
    Ok(Attachment::Created)
}

/// Whether a link is attached to this very target.
fn holds(link: BorrowedFd<'_>, target: Target<'_>) -> io::Result<bool> {
    // struct bpf_link_info: type, id, program id, 4 octets of padding, then by type: tcx ifindex;
    // netns inode; cgroup id (64 bits).
    let info = sys::info(link)?;
    Ok(match target {
        Target::Device(ifindex) => info[4] == ifindex,
        Target::Netns(fd) => u64::from(info[4]) == inode(fd)?,
        Target::Cgroup(fd) => (u64::from(info[5]) << 32 | u64::from(info[4])) == inode(fd)?,
    })
}

fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(fd)?.st_ino)
}

/// Ends a pinned link and removes the pin. One that is not there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match sys::object(path) {
        Ok(link) => {
            // What it was attached to may be gone: then there is nothing to detach.
            if let Err(error) = sys::link_detach(link.as_fd()) {
                tracing::debug!(path = %path.display(), %error, "detaching");
            }
            fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_survive_the_pin() {
        for device in ["eth0", "eth0.100", "a%2eb"] {
            let path = pin_path(Path::new("/p"), "from_outside", device);
            assert!(!path.file_name().unwrap().to_str().unwrap().contains('.'));
            assert_eq!(parse_pin(&path), Some(("from_outside".to_owned(), device.to_owned())));
        }
    }
}
