//! ARP (RFC 826) and neighbour discovery (RFC 4861): only the claims that they make.

use super::{Bytes, INVALID, Kind, Packet};
use crate::{DropReason, maps::v4_mapped};

/// Options of one ND message that are followed before giving up.
const MAX_OPTIONS: u32 = 6;

/// ND message types.
pub mod nd {
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
}

#[inline(always)]
pub(super) fn arp(bytes: &(impl Bytes + ?Sized), packet: &mut Packet) -> Result<(), DropReason> {
    let header = bytes.load::<28>(0).ok_or(INVALID)?;
    // Ethernet and IPv4, in their lengths.
    if [header[0], header[1], header[2], header[3], header[4], header[5]] != [0, 1, 8, 0, 6, 4] {
        return Err(INVALID);
    }
    packet.kind = Kind::Arp;
    packet.link_address = [header[8], header[9], header[10], header[11], header[12], header[13]];
    packet.keys.forward.src = v4_mapped([header[14], header[15], header[16], header[17]]);
    packet.keys.forward.dst = v4_mapped([header[24], header[25], header[26], header[27]]);
    Ok(())
}

/// An ND message at `offset`. RFC 6980: never fragmented. RFC 4861 §6.1, 7.1: hop limit 255, code 0.
#[inline(always)]
pub(super) fn discovery(
    bytes: &(impl Bytes + ?Sized),
    offset: u32,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    if packet.is_fragment() || packet.hop_limit != 255 || packet.icmp_code != 0 {
        return Err(INVALID);
    }
    let mut at = offset + 8;
    match packet.icmp_type {
        nd::NEIGHBOUR_SOLICITATION | nd::NEIGHBOUR_ADVERTISEMENT => {
            bytes.read(at, &mut packet.target).ok_or(INVALID)?;
            at += 16;
        }
        nd::ROUTER_SOLICITATION => {}
        // Routers' messages: which options they carry does not matter, a workload may not send them.
        _ => return Ok(()),
    }
    for _ in 0..MAX_OPTIONS {
        let Some(head) = bytes.load::<2>(at) else { return Ok(()) };
        if head[1] == 0 {
            return Err(INVALID);
        }
        // Source (1) or target (2) link-layer address. Two of them could be read in two ways.
        if head[0] == 1 || head[0] == 2 {
            if head[1] != 1 || packet.link_address != [0; 6] {
                return Err(INVALID);
            }
            bytes.read(at + 2, &mut packet.link_address).ok_or(INVALID)?;
        }
        at += u32::from(head[1]) * 8;
    }
    Err(INVALID)
}
