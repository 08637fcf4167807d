//! The short way through a plain packet's headers. Most packets are TCP or UDP right behind an IP
//! header without anything special: these are read by words, at fixed places. Whatever is not as plain
//! as that goes the long way ([`Packet::parse`]), which alone knows reasons to drop.

use super::{ETHERNET_LEN, Fragment, Kind, Packet, Ports, ethertype, is_v4_mapped};
use crate::maps::{Addr, proto};

/// The start of a frame, its link header included, as far as it lies in one piece.
pub trait Frame {
    /// `N` words at `offset`, as they lie in memory; `None` where the piece ends before. The IP header
    /// lies on a boundary of four octets, so `offset` is `14 + 4 n`.
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]>;
}

impl Packet {
    /// Reads the packet if it is plain. Where it is not, `self` holds anything.
    #[must_use]
    #[inline(always)]
    pub fn glance(&mut self, frame: &(impl Frame + ?Sized), ether: u16) -> bool {
        let read = match ether {
            ethertype::IPV4 => self.glance_v4(frame),
            ethertype::IPV6 => self.glance_v6(frame),
            _ => None,
        };
        read.is_some()
    }

    #[inline(always)]
    fn glance_v4(&mut self, frame: &(impl Frame + ?Sized)) -> Option<()> {
        let words = frame.words::<5>(ETHERNET_LEN)?;
        let [version, _, total_high, total_low] = words[0].to_ne_bytes();
        let [_, _, fragment_high, fragment_low] = words[1].to_ne_bytes();
        let [ttl, protocol, _, _] = words[2].to_ne_bytes();
        let total_len = u16::from_be_bytes([total_high, total_low]);
        let fragment = u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff;
        if version != 0x45 || fragment != 0 || (total_len != 0 && total_len < 20) {
            return None;
        }
        self.keys.forward.src = mapped(words[3]);
        self.keys.forward.dst = mapped(words[4]);
        self.glance_behind(frame, 20, protocol, ttl)
    }

    #[inline(always)]
    fn glance_v6(&mut self, frame: &(impl Frame + ?Sized)) -> Option<()> {
        let [first, second] = frame.words::<2>(ETHERNET_LEN)?;
        let [version, ..] = first.to_ne_bytes();
        let [_, _, next, hop_limit] = second.to_ne_bytes();
        if version >> 4 != 6 {
            return None;
        }
        let ends = frame.words::<8>(ETHERNET_LEN + 8)?;
        let flow = &mut self.keys.forward;
        flow.src = address([ends[0], ends[1], ends[2], ends[3]]);
        flow.dst = address([ends[4], ends[5], ends[6], ends[7]]);
        if is_v4_mapped(&flow.src) || is_v4_mapped(&flow.dst) {
            return None;
        }
        self.glance_behind(frame, 40, next, hop_limit)
    }

    #[inline(always)]
    fn glance_behind(
        &mut self,
        frame: &(impl Frame + ?Sized),
        network_len: u16,
        protocol: u8,
        hop_limit: u8,
    ) -> Option<()> {
        let at = ETHERNET_LEN + u32::from(network_len);
        let (ports, transport_len, flags) = match protocol {
            proto::TCP => {
                let words = frame.words::<5>(at)?;
                let [offset, flags, _, _] = words[3].to_ne_bytes();
                if offset >> 4 < 5 {
                    return None;
                }
                (words[0], (offset >> 4) * 4, flags)
            }
            proto::UDP => (frame.words::<2>(at)?[0], 8, 0),
            _ => return None,
        };
        let [a, b, c, d] = ports.to_ne_bytes();
        self.keys.forward.proto = protocol;
        self.keys.forward._pad = [0; 3];
        self.hop_limit = hop_limit;
        (self.fragment, self.fragment_proto, self.fragment_id) = (Fragment::Whole, 0, 0);
        (self.tcp_flags, self.icmp_type, self.icmp_code) = (flags, 0, 0);
        (self.network_len, self.transport_len) = (network_len, transport_len);
        self.resolve(Kind::Transport, Ports(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
        Some(())
    }
}

#[inline(always)]
fn mapped(v4: u32) -> Addr {
    crate::maps::v4_mapped(v4.to_ne_bytes())
}

#[inline(always)]
fn address(words: [u32; 4]) -> Addr {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

#[cfg(test)]
mod tests;
