//! What the eBPF programs and userspace share: map keys and values, constants, and the pure
//! packet decisions (parse a packet, judge it against the maps, track the connection).
//!
//! Every type here is `repr(C)` with explicit padding, because the kernel compares map keys byte
//! by byte. Addresses are 16 octets in network order; IPv4 is written v4-mapped
//! (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2), so that one code path serves both families. Ports are in
//! host byte order unless a field says otherwise.
#![cfg_attr(not(test), no_std)]

pub mod antispoof;
pub mod conntrack;
pub mod handover;
pub mod judge;
pub mod maps;
pub mod packet;

/// Why a packet may not pass: a code of [`maps::drop`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropReason(pub u8);
