//! From one workload of this node straight into another one's namespace: which packets may go there,
//! and what a router would have changed in them.

use crate::{
    antispoof::same_address,
    maps::{DeviceValue, proto},
    packet::{ETHERNET_LEN, Kind, Packet, is_v4_mapped},
};

/// A frame's size as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Octets with the link header.
    pub frame: u32,
    /// Octets of payload in each packet that this one will be cut into; 0: it is one packet.
    pub segment: u32,
}

/// Whether a packet that may pass can be handed over at `device`. Whatever the node's IP stack would
/// answer, cut or look into is left to it: a hop limit that ends here, a packet that is too large,
/// fragments, options and extension headers, ICMP errors.
#[must_use]
#[inline(always)]
pub fn may_hand_over(packet: &Packet, device: &DeviceValue, size: Size) -> bool {
    let to = &packet.keys.forward.dst;
    let own = same_address(to, &device.ipv4) || same_address(to, &device.ipv6);
    if device.ifindex == 0 || !own {
        return false;
    }
    let plain = if is_v4_mapped(to) { 20 } else { 40 };
    let known = matches!(packet.kind, Kind::Transport | Kind::EchoRequest | Kind::EchoReply);
    known
        && !packet.is_fragment()
        && packet.network_len == plain
        && packet.hop_limit > 1
        && fits(packet, device.mtu, size)
}

#[inline(always)]
fn fits(packet: &Packet, mtu: u32, size: Size) -> bool {
    if size.segment == 0 {
        return size.frame <= mtu + ETHERNET_LEN;
    }
    // SCTP's segments differ in size.
    matches!(packet.keys.forward.proto, proto::TCP | proto::UDP)
        && u32::from(packet.network_len) + u32::from(packet.transport_len) + size.segment <= mtu
}

/// An IPv4 header's checksum after its TTL went down by one (RFC 1141, network order).
#[must_use]
#[inline(always)]
pub fn checksum_after_hop(before: u16) -> u16 {
    let sum = u32::from(before) + 0x100;
    (sum + u32::from(sum >= 0xffff)) as u16
}

#[cfg(test)]
mod tests;
