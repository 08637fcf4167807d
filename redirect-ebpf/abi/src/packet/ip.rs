//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

use super::{Bytes, Fragment, INVALID, Kind, Packet, transport};
use crate::{
    DropReason,
    maps::{Addr, drop, proto, v4_mapped},
};

/// IPv6 extension headers that are followed before giving up.
pub(super) const MAX_EXTENSIONS: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
pub(super) fn v4(bytes: &(impl Bytes + ?Sized), packet: &mut Packet) -> Result<(), DropReason> {
    let header = bytes.load::<20>(0).ok_or(INVALID)?;
    let header_len = u32::from(header[0] & 15) * 4;
    let total_len = u32::from(u16::from_be_bytes([header[2], header[3]]));
    // A total length of 0 is the kernel's own notation for a segment beyond 64 KiB.
    if header[0] >> 4 != 4 || header_len < 20 || (total_len != 0 && total_len < header_len) {
        return Err(INVALID);
    }
    let flow = &mut packet.keys.forward;
    flow.src = v4_mapped([header[12], header[13], header[14], header[15]]);
    flow.dst = v4_mapped([header[16], header[17], header[18], header[19]]);
    flow.proto = header[9];
    packet.hop_limit = header[8];
    packet.fragment_proto = header[9];
    packet.fragment_id = u32::from(u16::from_be_bytes([header[4], header[5]]));
    if header_len > 20 {
        v4_options(bytes, header_len)?;
    }
    if header[9] == proto::ICMPV6 {
        return Err(DropReason(drop::UNSUPPORTED_L4));
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let more = fragment & 0x2000 != 0;
    behind(bytes, header_len, u32::from(fragment & 0x1fff) * 8, more, packet)
}

/// Refuses source routes: the address that was judged would not be where the packet goes.
///
/// Looks at every octet instead of walking the options: an option that merely contains one of the
/// two numbers is refused with them, and no padding or length hides one.
#[inline(always)]
fn v4_options(bytes: &(impl Bytes + ?Sized), header_len: u32) -> Result<(), DropReason> {
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    for word in 0..10 {
        let offset = 20 + word * 4;
        if offset >= header_len {
            break;
        }
        let octets = bytes.load::<4>(offset).ok_or(INVALID)?;
        for octet in octets {
            if octet == LOOSE_SOURCE_ROUTE || octet == STRICT_SOURCE_ROUTE {
                return Err(INVALID);
            }
        }
    }
    Ok(())
}

/// Where an IPv6 packet's upper layer begins, and its fragment header. Plain fields throughout: an
/// `Option`'s unset half would be an unset register, which the kernel's verifier refuses to copy.
pub(super) struct Upper {
    pub(super) offset: u32,
    pub(super) proto: u8,
    /// Of the fragment header, all 0 where there is none: next header, ...
    fragment_next: u8,
    /// ... offset in octets with the "more" flag in bit 0, and identification.
    pub(super) fragment_place: u16,
    fragment_id: u32,
    fragment_headers: u8,
}

impl Upper {
    #[inline(always)]
    pub(super) fn after(offset: u32, proto: u8) -> Self {
        Self { offset, proto, fragment_next: 0, fragment_place: 0, fragment_id: 0, fragment_headers: 0 }
    }
}

#[inline(always)]
pub(super) fn v6(bytes: &(impl Bytes + ?Sized), packet: &mut Packet) -> Result<(), DropReason> {
    let header = bytes.load::<8>(0).ok_or(INVALID)?;
    if header[0] >> 4 != 6 {
        return Err(INVALID);
    }
    let flow = &mut packet.keys.forward;
    bytes.read(8, &mut flow.src).ok_or(INVALID)?;
    bytes.read(24, &mut flow.dst).ok_or(INVALID)?;
    flow.proto = header[6];
    packet.hop_limit = header[7];
    // On the wire these would pass for IPv4 addresses in every map.
    if is_v4_mapped(&flow.src) {
        return Err(INVALID);
    }
    if is_v4_mapped(&flow.dst) {
        return Err(DropReason(drop::INVALID_DESTINATION));
    }
    let mut upper = Upper::after(40, header[6]);
    v6_upper(bytes, &mut upper)?;
    packet.keys.forward.proto = upper.proto;
    if upper.proto == proto::ICMP {
        return Err(DropReason(drop::UNSUPPORTED_L4));
    }
    packet.fragment_proto = upper.fragment_next;
    packet.fragment_id = upper.fragment_id;
    let place = upper.fragment_place;
    behind(bytes, upper.offset, u32::from(place & !7), place & 1 != 0, packet)
}

/// Follows the extension headers from where `upper` stands to where they end.
#[inline(always)]
pub(super) fn v6_upper(bytes: &(impl Bytes + ?Sized), upper: &mut Upper) -> Result<(), DropReason> {
    const TOO_MUCH: DropReason = DropReason(drop::EXTENSION_HEADERS);
    for _ in 0..MAX_EXTENSIONS {
        match upper.proto {
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING | AUTHENTICATION => {
                let header = bytes.load::<4>(upper.offset).ok_or(INVALID)?;
                // Segments left: the packet is on its way to an address that nobody judges.
                if upper.proto == ROUTING && header[3] != 0 {
                    return Err(TOO_MUCH);
                }
                upper.offset += if upper.proto == AUTHENTICATION {
                    (u32::from(header[1]) + 2) * 4
                } else {
                    (u32::from(header[1]) + 1) * 8
                };
                upper.proto = header[0];
            }
            FRAGMENT => {
                let header = bytes.load::<8>(upper.offset).ok_or(INVALID)?;
                if upper.fragment_headers != 0 {
                    return Err(TOO_MUCH);
                }
                upper.fragment_headers = 1;
                upper.fragment_next = header[0];
                upper.fragment_place = u16::from_be_bytes([header[2], header[3]]) & 0xfff9;
                upper.fragment_id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                upper.proto = header[0];
                upper.offset += 8;
                if upper.fragment_place > 7 {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
    }
    Err(TOO_MUCH)
}

/// The rest of the packet, `offset` into it and `fragment_offset` octets into its datagram.
#[inline(always)]
fn behind(
    bytes: &(impl Bytes + ?Sized),
    offset: u32,
    fragment_offset: u32,
    more: bool,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    if fragment_offset != 0 {
        // A TCP header is 20 octets at least: a fragment inside it would rewrite what was judged.
        if packet.fragment_proto == proto::TCP && fragment_offset < 20 {
            return Err(INVALID);
        }
        packet.fragment = Fragment::Later;
        packet.kind = Kind::LaterFragment;
        return Ok(());
    }
    if more {
        packet.fragment = Fragment::First;
    }
    transport(bytes, offset, packet)
}

#[must_use]
#[inline(always)]
pub fn is_v4_mapped(addr: &Addr) -> bool {
    let mut differs = (addr[10] ^ 0xff) | (addr[11] ^ 0xff);
    let mut i = 0;
    while i < 10 {
        differs |= addr[i];
        i += 1;
    }
    differs == 0
}
