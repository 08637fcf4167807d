//! Typed access to one map, through its descriptor alone.

use std::{
    io,
    marker::PhantomData,
    mem::{MaybeUninit, size_of},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::Pod;
use nix::libc;
use tektin_abi::maps::PIN_VERSION;

use crate::{
    error::{LoadError, MapError},
    sys,
};

/// What a pinned map must look like.
pub(crate) struct Layout {
    pub(crate) key: usize,
    pub(crate) value: usize,
}

/// Where the maps of `pin_dir` are pinned.
pub(crate) fn maps_dir(pin_dir: &Path) -> PathBuf {
    pin_dir.join(PIN_VERSION).join("maps")
}

/// Opens a pinned map and checks its sizes; also returns its capacity.
pub(crate) fn open(pin_dir: &Path, name: &'static str, layout: &Layout) -> Result<(OwnedFd, u32), LoadError> {
    let path = maps_dir(pin_dir).join(name);
    let failed = |source| LoadError::OpenMap { path: path.clone(), source };
    let fd = sys::object(&path).map_err(failed)?;
    // struct bpf_map_info: type, id, key size, value size, capacity.
    let info = sys::info(fd.as_fd()).map_err(failed)?;
    let (key, value) = (info[2] as usize, info[3] as usize);
    if (key, value) != (layout.key, layout.value) {
        return Err(LoadError::Layout {
            path,
            found: format!("key {key}, value {value} octets"),
            expected: format!("key {}, value {} octets", layout.key, layout.value),
        });
    }
    Ok((fd, info[4]))
}

/// A hash, LRU hash or LPM trie map. Every call is one or more system calls; nothing is cached, so
/// a handle may be shared between threads.
#[derive(Debug)]
pub struct Table<K, V> {
    fd: OwnedFd,
    name: &'static str,
    max_entries: u32,
    iteration: Iteration,
    types: PhantomData<fn() -> (K, V)>,
}

/// How a table's entries are listed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Iteration {
    /// Bucket by bucket: sound while others change the map.
    Batch,
    /// Key by key: for tries, which only the agent changes.
    NextKey,
}

impl<K: Pod, V: Pod> Table<K, V> {
    pub(crate) fn open(pin_dir: &Path, name: &'static str, iteration: Iteration) -> Result<Self, LoadError> {
        let layout = Layout { key: size_of::<K>(), value: size_of::<V>() };
        let (fd, max_entries) = open(pin_dir, name, &layout)?;
        Ok(Self { fd, name, max_entries, iteration, types: PhantomData })
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    #[must_use]
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// The value of `key`; in a trie, of the longest prefix that covers it.
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: sizes were checked when the map was opened; the kernel fills what it finds.
        unsafe {
            let found = sys::map_lookup(self.fd.as_fd(), octets(key), value.as_mut_ptr().cast());
            Ok(self.access(found)?.then(|| value.assume_init()))
        }
    }

    /// Writes an entry, new or not.
    ///
    /// # Errors
    /// [`MapError::Full`] where there is no room (tables that evict always have room).
    pub fn insert(&self, key: &K, value: &V) -> Result<(), MapError> {
        // SAFETY: sizes were checked when the map was opened.
        let written = unsafe { sys::map_update(self.fd.as_fd(), octets(key), octets(value)) };
        match written.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::E2BIG | libc::ENOSPC)) => Err(MapError::Full { map: self.name }),
            _ => self.access(written),
        }
    }

    /// Whether the entry was there.
    pub fn remove(&self, key: &K) -> Result<bool, MapError> {
        // SAFETY: the size was checked when the map was opened.
        self.access(unsafe { sys::map_delete(self.fd.as_fd(), octets(key)) })
    }

    /// All entries, in no order. What others change meanwhile may or may not be in it.
    pub fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        match self.iteration {
            Iteration::Batch => self.batches(),
            Iteration::NextKey => {
                let mut entries = Vec::new();
                for key in self.keys()? {
                    // A trie's look-up finds the longest prefix: of a key that is in it, itself.
                    if let Some(value) = self.get(&key)? {
                        entries.push((key, value));
                    }
                }
                Ok(entries)
            }
        }
    }

    /// How many entries there are.
    pub fn count(&self) -> Result<u32, MapError> {
        let count = match self.iteration {
            Iteration::Batch => self.batches()?.len(),
            Iteration::NextKey => self.keys()?.len(),
        };
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn keys(&self) -> Result<Vec<K>, MapError> {
        let mut keys = Vec::new();
        let mut last: Option<K> = None;
        // A key that is deleted under our hands starts the walk again: bounded, it still ends.
        while keys.len() <= self.max_entries as usize {
            let mut next = MaybeUninit::<K>::uninit();
            let from = last.as_ref().map_or(std::ptr::null(), octets);
            // SAFETY: the size was checked when the map was opened.
            let more = unsafe { sys::map_next_key(self.fd.as_fd(), from, next.as_mut_ptr().cast()) };
            if !self.access(more)? {
                break;
            }
            // SAFETY: the kernel filled it.
            let next = unsafe { next.assume_init() };
            keys.push(next);
            last = Some(next);
        }
        Ok(keys)
    }

    fn batches(&self) -> Result<Vec<(K, V)>, MapError> {
        // A batch must hold the fullest bucket; one that does not is tried again, larger.
        let mut room = 1024usize;
        let mut entries = Vec::new();
        let (mut from, mut started) = ([0u8; 8], false);
        loop {
            let mut keys: Vec<MaybeUninit<K>> = vec![MaybeUninit::uninit(); room];
            let mut values: Vec<MaybeUninit<V>> = vec![MaybeUninit::uninit(); room];
            let mut to = [0u8; 8];
            let start = if started { from.as_ptr() } else { std::ptr::null() };
            // SAFETY: both vectors have `room` places of the sizes checked when the map was opened.
            let batch = unsafe {
                sys::map_lookup_batch(
                    self.fd.as_fd(),
                    (start, to.as_mut_ptr()),
                    (keys.as_mut_ptr().cast(), values.as_mut_ptr().cast()),
                    room as u32,
                )
            };
            match batch.as_ref().map_err(io::Error::raw_os_error) {
                Err(Some(libc::ENOSPC)) if room <= self.max_entries as usize => {
                    room *= 2;
                    continue;
                }
                _ => {}
            }
            let batch = self.access(batch)?;
            for (key, value) in keys.iter().zip(&values).take(batch.count as usize) {
                // SAFETY: the kernel filled `count` places of both.
                entries.push(unsafe { (key.assume_init(), value.assume_init()) });
            }
            if batch.last {
                return Ok(entries);
            }
            (from, started) = (to, true);
        }
    }

    fn access<T>(&self, result: io::Result<T>) -> Result<T, MapError> {
        result.map_err(|source| MapError::Access { map: self.name, source })
    }
}

fn octets<T>(value: &T) -> *const u8 {
    std::ptr::from_ref(value).cast()
}

/// An array map: every index below its size has a value.
#[derive(Debug)]
pub struct ArrayMap<V> {
    table: Table<u32, V>,
}

impl<V: Pod> ArrayMap<V> {
    pub(crate) fn open(pin_dir: &Path, name: &'static str) -> Result<Self, LoadError> {
        Ok(Self { table: Table::open(pin_dir, name, Iteration::NextKey)? })
    }

    #[must_use]
    pub fn len(&self) -> u32 {
        self.table.max_entries
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.max_entries == 0
    }

    /// # Errors
    /// Also for an index beyond the array.
    pub fn get(&self, index: u32) -> Result<V, MapError> {
        let beyond = || io::Error::from_raw_os_error(libc::ERANGE);
        self.table.get(&index)?.ok_or_else(|| MapError::Access { map: self.table.name, source: beyond() })
    }

    pub fn set(&self, index: u32, value: &V) -> Result<(), MapError> {
        self.table.insert(&index, value)
    }
}
