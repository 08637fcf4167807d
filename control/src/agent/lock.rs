//! One agent for one run directory and for one set of pins.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::config::AgentConfig;

const LOCK_FILE: &str = "agent.lock";

/// Held as long as this lives.
#[derive(Debug)]
pub struct Locks {
    _run: Flock<File>,
    _pins: Flock<File>,
}

/// Fails where another agent has either directory.
pub fn take(config: &AgentConfig) -> anyhow::Result<Locks> {
    let path = config.run_dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    let run = lock(file, &config.run_dir)?;
    // A bpf file system has no regular files; the directory itself can be locked.
    tektin_loader::prepare_pin_dir(&config.pin_dir)
        .with_context(|| format!("make pin directory {}", config.pin_dir.display()))?;
    let pins = File::open(&config.pin_dir).with_context(|| format!("open {}", config.pin_dir.display()))?;
    Ok(Locks { _run: run, _pins: lock(pins, &config.pin_dir)? })
}

fn lock(file: File, directory: &Path) -> anyhow::Result<Flock<File>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            bail!("another agent uses {}; give this one directories of its own", directory.display())
        }
        Err((_, error)) => Err(error).with_context(|| format!("lock {}", directory.display())),
    }
}
