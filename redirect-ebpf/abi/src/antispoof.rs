//! Whether a workload may send this packet at all: addresses that are not its own, and
//! destinations that nobody may send to.

use crate::{
    DropReason,
    maps::{Addr, EndpointValue, drop},
    packet::{Kind, Packet, neighbour::nd},
};

/// The gateway that every workload knows as a permanent neighbour.
pub const GATEWAY_V6: Addr = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What a packet's addresses say about its sender.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The addresses are the workload's own: judge the packet.
    Genuine,
    /// An honest message on the link (ARP, ND), which no policy judges.
    Link,
    /// The same, if the destination is this host. To anybody else's address the node would route it, past
    /// all policy.
    LinkToHost,
    /// A message that every kernel sends and nobody needs: drop it without a word.
    Noise,
    Refused(DropReason),
}

/// Checks what a workload sent, `source_mac` being the frame's.
#[inline(always)]
pub fn check(packet: &Packet, source_mac: &[u8; 6], endpoint: &EndpointValue) -> Claim {
    if *source_mac != endpoint.mac {
        return Claim::Refused(DropReason(drop::SPOOFED_SOURCE_MAC));
    }
    match packet.kind {
        Kind::Arp => arp(packet, endpoint),
        Kind::Nd => discovery(packet, endpoint),
        Kind::Mld => Claim::Noise,
        _ => addresses(&packet.keys.forward.src, &packet.keys.forward.dst, endpoint),
    }
}

#[inline(always)]
fn addresses(src: &Addr, dst: &Addr, endpoint: &EndpointValue) -> Claim {
    if !is_own(src, endpoint) {
        return Claim::Refused(DropReason(drop::SPOOFED_SOURCE_IP));
    }
    if !is_unicast(dst) {
        return Claim::Refused(DropReason(drop::INVALID_DESTINATION));
    }
    Claim::Genuine
}

#[inline(always)]
fn arp(packet: &Packet, endpoint: &EndpointValue) -> Claim {
    let sender = &packet.keys.forward.src;
    // A probe (RFC 5227) claims nothing yet, and asks for the address that it will claim.
    let probe = [sender[12], sender[13], sender[14], sender[15]] == [0; 4];
    let claimed = if probe { &packet.keys.forward.dst } else { sender };
    if packet.link_address != endpoint.mac || !is_own(claimed, endpoint) {
        return Claim::Refused(DropReason(drop::SPOOFED_ARP));
    }
    Claim::Link
}

#[inline(always)]
fn discovery(packet: &Packet, endpoint: &EndpointValue) -> Claim {
    const SPOOFED: Claim = Claim::Refused(DropReason(drop::SPOOFED_ND));
    let src = &packet.keys.forward.src;
    let unspecified = is_zero(src);
    if !unspecified && !may_claim(src, endpoint) {
        return SPOOFED;
    }
    if packet.link_address != [0; 6] && packet.link_address != endpoint.mac {
        return SPOOFED;
    }
    let honest = match packet.icmp_type {
        nd::ROUTER_SOLICITATION => true,
        // From the unspecified address it is duplicate address detection: a claim to the target.
        nd::NEIGHBOUR_SOLICITATION => !unspecified || may_claim(&packet.target, endpoint),
        nd::NEIGHBOUR_ADVERTISEMENT => !unspecified && may_claim(&packet.target, endpoint),
        _ => false,
    };
    if !honest {
        return SPOOFED;
    }
    if stays_on_link(&packet.keys.forward.dst) { Claim::Link } else { Claim::LinkToHost }
}

/// Whether no router passes on what goes there: link-local unicast, multicast of link scope (RFC 4291 §2.7).
#[inline(always)]
fn stays_on_link(dst: &Addr) -> bool {
    is_link_local(dst) || (dst[0] == 0xff && dst[1] & 0x0f == 2)
}

/// Its own address, or a link-local one that is not the gateway's.
#[inline(always)]
fn may_claim(addr: &Addr, endpoint: &EndpointValue) -> bool {
    is_own(addr, endpoint) || (is_link_local(addr) && *addr != GATEWAY_V6)
}

/// An address of the endpoint. Zero, in an endpoint, is no address, and nobody's in a packet.
#[must_use]
#[inline(always)]
pub fn is_own(addr: &Addr, endpoint: &EndpointValue) -> bool {
    same_address(addr, &endpoint.ipv4) || same_address(addr, &endpoint.ipv6)
}

/// `own` being zero where there is none.
#[must_use]
#[inline(always)]
pub fn same_address(addr: &Addr, own: &Addr) -> bool {
    let addr = words(*addr);
    addr == words(*own) && addr != [0, 0]
}

/// An address as two machine words, for comparing.
#[inline(always)]
fn words(addr: Addr) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

#[inline(always)]
fn is_zero(addr: &Addr) -> bool {
    *addr == [0; 16]
}

/// Link-local unicast of IPv6 (RFC 4291 §2.5.6).
#[must_use]
#[inline(always)]
pub fn is_link_local(addr: &Addr) -> bool {
    addr[0] == 0xfe && addr[1] & 0xc0 == 0x80
}

/// Whether a routed packet may go there: not loopback, not multicast or broadcast, not unspecified.
#[must_use]
#[inline(always)]
pub fn is_unicast(addr: &Addr) -> bool {
    if crate::packet::is_v4_mapped(addr) {
        // 0/8 "this network", 127/8 loopback, 224/4 multicast, 240/4 reserved and broadcast.
        return addr[12] != 0 && addr[12] != 127 && addr[12] < 224;
    }
    let mut rest = addr[0];
    let mut i = 1;
    while i < 15 {
        rest |= addr[i];
        i += 1;
    }
    // `::` and `::1` are the only ones that differ in the last octet alone and are never routed.
    addr[0] != 0xff && !(rest == 0 && addr[15] <= 1)
}

#[cfg(test)]
mod tests;
