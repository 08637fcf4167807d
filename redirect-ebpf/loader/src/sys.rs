//! The bpf(2) calls that aya has no public door to.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use nix::libc;

/// Commands of bpf(2) (linux/bpf.h, `enum bpf_cmd`).
#[derive(Clone, Copy)]
#[repr(i32)]
enum Command {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ObjPin = 6,
    ObjGet = 7,
    InfoByFd = 15,
    MapLookupBatch = 24,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// `union bpf_attr`, as far as these commands use it: 64-bit slots, 32-bit fields packed by `pair`.
type Attributes = [u64; 16];

/// Two neighbouring 32-bit fields.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn bpf(command: Command, attributes: &mut Attributes) -> io::Result<i64> {
    // SAFETY: the attributes live through the call; what their pointers point to is the callers'.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i32,
            attributes.as_mut_ptr(),
            std::mem::size_of::<Attributes>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

/// # Safety
/// `key` and `value` are of the map's sizes (per-CPU values: of all possible CPUs).
pub(crate) unsafe fn map_lookup(map: BorrowedFd<'_>, key: *const u8, value: *mut u8) -> io::Result<bool> {
    let mut attributes = [0; 16];
    attributes[..3].copy_from_slice(&[pair(number(map), 0), key as u64, value as u64]);
    found(bpf(Command::MapLookup, &mut attributes))
}

/// # Safety
/// `key` and `value` are of the map's sizes.
pub(crate) unsafe fn map_update(map: BorrowedFd<'_>, key: *const u8, value: *const u8) -> io::Result<()> {
    let mut attributes = [0; 16];
    attributes[..3].copy_from_slice(&[pair(number(map), 0), key as u64, value as u64]);
    bpf(Command::MapUpdate, &mut attributes).map(drop)
}

/// # Safety
/// `key` is of the map's size.
pub(crate) unsafe fn map_delete(map: BorrowedFd<'_>, key: *const u8) -> io::Result<bool> {
    let mut attributes = [0; 16];
    attributes[..2].copy_from_slice(&[pair(number(map), 0), key as u64]);
    found(bpf(Command::MapDelete, &mut attributes))
}

/// # Safety
/// `key` (null: from the start) and `next` are of the map's key size.
pub(crate) unsafe fn map_next_key(map: BorrowedFd<'_>, key: *const u8, next: *mut u8) -> io::Result<bool> {
    let mut attributes = [0; 16];
    attributes[..3].copy_from_slice(&[pair(number(map), 0), key as u64, next as u64]);
    found(bpf(Command::MapNextKey, &mut attributes))
}

fn found(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Result of one batch: how many entries were read, and whether these were the last.
pub(crate) struct Batch {
    pub(crate) count: u32,
    pub(crate) last: bool,
}

/// # Safety
/// `keys` and `values` have room for `count` entries; `from` (null: the start) and `to` for 8 octets.
pub(crate) unsafe fn map_lookup_batch(
    map: BorrowedFd<'_>,
    (from, to): (*const u8, *mut u8),
    (keys, values): (*mut u8, *mut u8),
    count: u32,
) -> io::Result<Batch> {
    let mut attributes = [0; 16];
    let fields = [from as u64, to as u64, keys as u64, values as u64, pair(count, number(map))];
    attributes[..5].copy_from_slice(&fields);
    let result = bpf(Command::MapLookupBatch, &mut attributes);
    let count = attributes[4] as u32;
    match result {
        Ok(_) => Ok(Batch { count, last: false }),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch { count, last: true }),
        Err(error) => Err(error),
    }
}

/// Opens a pinned object.
pub(crate) fn object(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = [0; 16];
    attributes[0] = path.as_ptr() as u64;
    let fd = bpf(Command::ObjGet, &mut attributes)?;
    // SAFETY: the kernel made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = [0; 16];
    attributes[..2].copy_from_slice(&[path.as_ptr() as u64, pair(number(object), 0)]);
    bpf(Command::ObjPin, &mut attributes).map(drop)
}

/// `target`: a descriptor, or of a tcx link the ifindex.
pub(crate) fn link_create(program: BorrowedFd<'_>, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attributes = [0; 16];
    attributes[..2].copy_from_slice(&[pair(number(program), target), pair(attach_type, 0)]);
    let fd = bpf(Command::LinkCreate, &mut attributes)?;
    // SAFETY: the kernel made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Exchanges the program behind a link.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = [0; 16];
    attributes[0] = pair(number(link), number(program));
    bpf(Command::LinkUpdate, &mut attributes).map(drop)
}

/// Takes a link off its target at once; closing it would do so some time later.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = [0; 16];
    attributes[0] = pair(number(link), 0);
    bpf(Command::LinkDetach, &mut attributes).map(drop)
}

/// The first 80 octets of an object's `bpf_*_info`, as 32-bit words.
pub(crate) fn info(object: BorrowedFd<'_>) -> io::Result<[u32; 20]> {
    let mut words = [0u32; 20];
    let mut attributes = [0; 16];
    attributes[..2].copy_from_slice(&[pair(number(object), 80), words.as_mut_ptr() as u64]);
    bpf(Command::InfoByFd, &mut attributes)?;
    Ok(words)
}
