//! The directories on a BPF file system.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::error::LoadError;

/// Where systems mount it.
const SYSTEM: &str = "/sys/fs/bpf";

/// Makes `dir` and what is above it, on a BPF file system, mounting one where there is none: at
/// the system's place if `dir` is below it, else at `dir` itself.
pub(crate) fn make(dir: &Path) -> Result<(), LoadError> {
    if dir.starts_with(SYSTEM) && Path::new(SYSTEM).is_dir() && !is_bpffs(Path::new(SYSTEM)) {
        mount_at(Path::new(SYSTEM))?;
    }
    make_directory(dir)?;
    if !is_bpffs(dir) {
        mount_at(dir)?;
    }
    Ok(())
}

pub(crate) fn make_directory(dir: &Path) -> Result<(), LoadError> {
    fs::create_dir_all(dir).map_err(|source| LoadError::PinDirectory { path: dir.into(), source })
}

fn mount_at(dir: &Path) -> Result<(), LoadError> {
    tracing::info!(path = %dir.display(), "mounting a BPF file system");
    let none: Option<&str> = None;
    mount(Some("bpf"), dir, Some("bpf"), MsFlags::empty(), none)
        .map_err(|source| LoadError::Mount { path: dir.into(), source })?;
    if is_bpffs(dir) { Ok(()) } else { Err(LoadError::NotBpffs { path: dir.into() }) }
}

pub(crate) fn is_bpffs(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// The files of a directory; none where it does not exist.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
