//! What can go wrong, by who is at fault.

use std::{io, path::PathBuf};

/// Loading the programs and opening the pinned maps.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{path}: {source}")]
    PinDirectory { path: PathBuf, source: io::Error },
    #[error("{path} is not on a BPF file system; mount one: mount -t bpf bpf {path}")]
    NotBpffs { path: PathBuf },
    #[error("cannot mount a BPF file system at {path}: {source}")]
    Mount { path: PathBuf, source: nix::Error },
    #[error(
        "the pinned map {path} has another layout ({found}; expected {expected}): it is another version's. \
         Remove the pins of that version first"
    )]
    Layout { path: PathBuf, found: String, expected: String },
    #[error("pinned map {path}: {source}")]
    OpenMap { path: PathBuf, source: io::Error },
    #[error("the kernel refuses the eBPF object: {0}")]
    Object(#[from] aya::EbpfError),
    #[error("the kernel refuses the program {name}: {source}")]
    Program { name: &'static str, source: aya::programs::ProgramError },
    #[error("map access after loading: {0}")]
    Map(#[from] MapError),
    #[error("events: {0}")]
    Events(#[from] aya::maps::MapError),
}

/// Reading and writing a map.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("map {map} is full")]
    Full { map: &'static str },
    #[error("map {map}: {source}")]
    Access { map: &'static str, source: io::Error },
}

/// Attaching programs.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("there is no device {device} in this network namespace")]
    NoDevice { device: String },
    #[error("{operation} of {program} on {target}: {source}")]
    Link { operation: &'static str, program: String, target: String, source: io::Error },
    #[error("clsact on {device}: {source}")]
    Clsact { device: String, source: aya::programs::ProgramError },
    #[error("{path}: {source}")]
    Path { path: PathBuf, source: io::Error },
}
