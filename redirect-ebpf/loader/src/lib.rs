//! Loads Tektin's eBPF programs, attaches and pins them, and gives typed handles to their maps.
//!
//! Everything that enforces is pinned: when this process ends, programs, links and maps stay. The
//! next one opens the same maps and exchanges the programs behind the links one by one, each
//! atomically.

mod address;
mod attach;
mod bpffs;
mod datapath;
mod error;
mod events;
mod features;
mod links;
mod listeners;
mod maps;
mod sys;
mod table;

pub use address::{from_addr, ipcache_key, to_addr};
pub use attach::{AttachMode, Attached, Attachment};
pub use datapath::{Datapath, LoadOptions, LoadedProgram};
pub use error::{AttachError, LoadError, MapError};
pub use events::EventReader;
pub use features::Features;
pub use listeners::Listeners;
pub use maps::{ConfigMap, MapFill, Maps, Metrics, ProxyMaps, open_proxy_maps};
pub use table::{ArrayMap, Table};
/// The types that the maps hold.
pub use tektin_abi as abi;

/// The compiled programs (see build.rs).
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tektin.bpf.o"));

/// Makes the pin directory on a BPF file system (mounting one where there is none), so that its user
/// can take a lock on it before anything is loaded.
///
/// # Errors
/// Where the directory or the mount cannot be made.
pub fn prepare_pin_dir(dir: &std::path::Path) -> Result<(), LoadError> {
    bpffs::make(dir)
}
