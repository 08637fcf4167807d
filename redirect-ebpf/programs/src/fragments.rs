//! Later fragments carry no ports: they take those of their datagram's first fragment.

use tektin_abi::{
    DropReason,
    conntrack::FRAGMENT_NS,
    maps::{FragmentKey, FragmentValue, drop},
    packet::{Fragment, Kind, Packet, Ports},
};

use crate::maps::FRAGMENTS;

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        src: packet.keys.forward.src,
        dst: packet.keys.forward.dst,
        id: packet.fragment_id,
        proto: packet.fragment_proto,
        _pad: [0; 3],
    }
}

/// Completes a later fragment; anything else stays as it is.
#[inline(always)]
pub(crate) fn resolve(packet: &mut Packet, now: u64) -> Result<(), DropReason> {
    if !matches!(packet.fragment, Fragment::Later) {
        return Ok(());
    }
    const MISSING: DropReason = DropReason(drop::FRAGMENT_WITHOUT_FIRST);
    // SAFETY: read at once; a value that is being replaced belongs to the same datagram's key.
    let first = unsafe { FRAGMENTS.get(key(packet)) }.copied().ok_or(MISSING)?;
    if now > first.expires_ns {
        return Err(MISSING);
    }
    let kind = Kind::of_fragment(first.kind).ok_or(MISSING)?;
    // With IPv6 the fragment header may be followed by more than the transport header.
    packet.keys.forward.proto = first.proto;
    packet.resolve(kind, Ports(first.sport, first.dport));
    Ok(())
}

/// Remembers a first fragment that may pass.
#[inline(always)]
pub(crate) fn remember(packet: &Packet, now: u64) -> Result<(), DropReason> {
    if !matches!(packet.fragment, Fragment::First) {
        return Ok(());
    }
    let value = FragmentValue {
        sport: packet.ports[0],
        dport: packet.ports[1],
        kind: packet.kind as u8,
        proto: packet.keys.forward.proto,
        _pad: [0; 2],
        expires_ns: now + FRAGMENT_NS,
    };
    FRAGMENTS.insert(key(packet), value, 0).map_err(|_| DropReason(drop::MAP_FULL))
}
