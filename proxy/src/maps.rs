//! The four pinned maps that the proxy may touch.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd},
    path::Path,
};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie};
use nix::libc;
use tektin_abi::maps::{
    Addr, FlowKey, IPCACHE, IpcacheValue, LISTENERS, LISTENERS_V6, PIN_VERSION, STEERED, SteeredValue,
    VERDICTS, VerdictKey, VerdictValue,
};

use crate::{
    capture::{AddressTable, SteeringTable},
    worker::Totals,
};

/// Why a map cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("map {name}: {source}")]
pub(crate) struct MapsError {
    name: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

fn error(name: &'static str) -> impl FnOnce(MapError) -> MapsError {
    move |source| MapsError { name, source: source.into() }
}

fn open(pin_dir: &Path, name: &'static str, wrap: fn(MapData) -> Map) -> Result<Map, MapsError> {
    let path = pin_dir.join(PIN_VERSION).join("maps").join(name);
    MapData::from_pin(path).map(wrap).map_err(error(name))
}

/// `steered`: read only.
pub(crate) struct Steered(HashMap<MapData, FlowKey, SteeredValue>);

impl Steered {
    pub(crate) fn open(pin_dir: &Path) -> Result<Self, MapsError> {
        open(pin_dir, STEERED, Map::LruHashMap)?.try_into().map(Self).map_err(error(STEERED))
    }
}

impl SteeringTable for Steered {
    fn steered(&self, flow: &FlowKey) -> io::Result<Option<SteeredValue>> {
        match self.0.get(flow, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// `ipcache`: read only.
pub(crate) struct Ipcache(LpmTrie<MapData, Addr, IpcacheValue>);

impl Ipcache {
    pub(crate) fn open(pin_dir: &Path) -> Result<Self, MapsError> {
        open(pin_dir, IPCACHE, Map::LpmTrie)?.try_into().map(Self).map_err(error(IPCACHE))
    }
}

impl AddressTable for Ipcache {
    fn owner(&self, address: &Addr) -> io::Result<Option<IpcacheValue>> {
        match self.0.get(&lpm_trie::Key::new(128, *address), 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// `verdicts`: the proxy is its only writer.
pub(crate) struct Verdicts(HashMap<MapData, VerdictKey, VerdictValue>);

impl Verdicts {
    pub(crate) fn open(pin_dir: &Path) -> Result<Self, MapsError> {
        open(pin_dir, VERDICTS, Map::LruHashMap)?.try_into().map(Self).map_err(error(VERDICTS))
    }

    /// Adds to what the map has, so that totals go on where an earlier proxy ended.
    pub(crate) fn add(&mut self, key: VerdictKey, totals: Totals) -> Result<(), MapsError> {
        let mut value = match self.0.get(&key, 0) {
            Ok(value) => value,
            Err(MapError::KeyNotFound) => VerdictValue::default(),
            Err(source) => return Err(error(VERDICTS)(source)),
        };
        value.allowed = value.allowed.saturating_add(totals.allowed);
        value.denied = value.denied.saturating_add(totals.denied);
        value.last_denied_ns = value.last_denied_ns.max(totals.last_denied_ns);
        self.0.insert(key, value, 0).map_err(error(VERDICTS))
    }
}

/// `listeners`: where the kernel finds the sockets to steer to. Its values are 8 octets, so that
/// readers can ask for socket cookies; aya's SockMap knows only values of 4.
pub(crate) struct Listeners(MapData);

/// The two slots of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    V4(u32),
    V6(u32),
}

impl Slot {
    fn index(self) -> u32 {
        match self {
            Self::V4(thread) => thread,
            Self::V6(thread) => LISTENERS_V6 + thread,
        }
    }
}

/// `BPF_MAP_UPDATE_ELEM` (linux/bpf.h, `enum bpf_cmd`).
const MAP_UPDATE: libc::c_long = 2;

/// `union bpf_attr` of that command.
#[repr(C)]
struct MapUpdate {
    map: u32,
    _pad: u32,
    key: *const u32,
    value: *const u64,
    flags: u64,
}

impl Listeners {
    pub(crate) fn open(pin_dir: &Path) -> Result<Self, MapsError> {
        let path = pin_dir.join(PIN_VERSION).join("maps").join(LISTENERS);
        let map = MapData::from_pin(path).map_err(error(LISTENERS))?;
        let info = map.info().map_err(error(LISTENERS))?;
        if (info.key_size(), info.value_size()) != (4, 8) {
            let source =
                format!("keys of {} octets, values of {}", info.key_size(), info.value_size()).into();
            return Err(MapsError { name: LISTENERS, source });
        }
        Ok(Self(map))
    }

    /// From now on the kernel steers connections of this slot to `socket`.
    pub(crate) fn publish(&mut self, slot: Slot, socket: &impl AsRawFd) -> Result<(), MapsError> {
        let (key, value) = (slot.index(), u64::from(socket.as_raw_fd().cast_unsigned()));
        let update = MapUpdate {
            map: self.0.fd().as_fd().as_raw_fd().cast_unsigned(),
            _pad: 0,
            key: &raw const key,
            value: &raw const value,
            flags: 0,
        };
        // SAFETY: key and value are of the map's sizes, checked when it was opened, and outlive the call.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, MAP_UPDATE, &raw const update, size_of::<MapUpdate>()) };
        if result < 0 {
            return Err(MapsError { name: LISTENERS, source: io::Error::last_os_error().into() });
        }
        Ok(())
    }
}
