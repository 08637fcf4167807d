//! Reads a packet from its network header on into a [`Packet`].
//!
//! Only what decisions need is read, and everything that could be read in two ways is refused.
//! Nothing here trusts a length field: every read is checked against the packet's real end.

#[cfg(test)]
pub(crate) mod build;
pub mod glance;
mod icmp;
mod ip;
pub use ip::is_v4_mapped;
pub mod neighbour;
#[cfg(test)]
mod tests;

use crate::{
    DropReason,
    maps::{Addr, FlowKey, drop, proto},
};

/// Random access to a packet, offset 0 being its network header.
pub trait Bytes {
    /// Copies the octets at `offset` into `out`; `None` where the packet ends before.
    fn read<const N: usize>(&self, offset: u32, out: &mut [u8; N]) -> Option<()>;

    /// `N` octets at `offset`.
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut out = [0; N];
        self.read(offset, &mut out)?;
        Some(out)
    }
}

impl Bytes for [u8] {
    fn read<const N: usize>(&self, offset: u32, out: &mut [u8; N]) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        out.copy_from_slice(self.get(start..start.checked_add(N)?)?);
        Some(())
    }
}

/// EtherType numbers (IANA).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
    pub const VLAN: u16 = 0x8100;
    /// IEEE 802.1ad
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// TCP flags (RFC 9293 §3.1).
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

/// Octets of an Ethernet header without tags.
pub const ETHERNET_LEN: u32 = 14;

/// What the packet is, as far as a decision depends on it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// TCP, UDP or SCTP.
    #[default]
    Transport = 0,
    EchoRequest = 1,
    EchoReply = 2,
    /// An ICMP error that quotes the packet which caused it.
    IcmpError = 3,
    /// Any other ICMP message, judged by its type.
    IcmpOther = 4,
    Arp = 5,
    /// Neighbour discovery (RFC 4861).
    Nd = 6,
    /// Multicast listener discovery: noise on a veth.
    Mld = 7,
    /// A fragment without the transport header; see [`Packet::resolve`].
    LaterFragment = 8,
}

impl Kind {
    /// The kind that a [`crate::maps::FragmentValue`] stores; only those whose later fragments can pass.
    #[must_use]
    #[inline(always)]
    pub fn of_fragment(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Transport),
            1 => Some(Self::EchoRequest),
            2 => Some(Self::EchoReply),
            4 => Some(Self::IcmpOther),
            _ => None,
        }
    }
}

#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    #[default]
    Whole = 0,
    First = 1,
    Later = 2,
}

/// The two keys under which a packet's connection may be known.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowPair {
    /// The flow whose originator sent this packet.
    pub forward: FlowKey,
    /// The flow that this packet answers; all zero where it can be no answer.
    pub reverse: FlowKey,
}

/// A transport header's two numbers: the ports; of ICMP the identifier (or 0) and the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports(pub u16, pub u16);

impl FlowPair {
    /// Fills both keys; the addresses and protocol of `forward` are already there.
    ///
    /// A request and its answer must map to one key, and nothing else may map to it: an echo reply
    /// answers (identifier, 0); every other ICMP message is (0, type) and answers nothing.
    #[inline(always)]
    fn set_ports(&mut self, kind: Kind, ports: Ports) {
        let Ports(first, second) = ports;
        let icmp = if second == 0 { 256 } else { second };
        match kind {
            Kind::EchoRequest => {
                self.forward.sport = first;
                self.forward.dport = 0;
            }
            Kind::EchoReply => {
                self.forward.dport = icmp;
                self.reverse = self.forward.reversed();
                self.reverse.sport = first;
                self.reverse.dport = 0;
            }
            Kind::Transport => {
                self.forward.sport = first;
                self.forward.dport = second;
                self.reverse = self.forward.reversed();
            }
            _ => self.forward.dport = icmp,
        }
    }
}

/// A parsed packet.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Of ARP: sender and target address, protocol 0.
    pub keys: FlowPair,
    /// Of [`Kind::IcmpError`]: the keys of the packet that it quotes, as that one travelled.
    pub quoted: FlowPair,
    /// Of neighbour solicitations and advertisements: the target.
    pub target: Addr,
    /// Of ARP: the sender's; of ND: the link-layer address option's; zero: none given.
    pub link_address: [u8; 6],
    /// Protocol number that follows the IP header or, with IPv6, its fragment header.
    pub fragment_proto: u8,
    pub hop_limit: u8,
    pub fragment_id: u32,
    pub ports: [u16; 2],
    pub kind: Kind,
    pub fragment: Fragment,
    /// TCP flags octet, 0 for others.
    pub tcp_flags: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// Octets of the transport header; 0 where it was not read.
    pub transport_len: u8,
    /// Octets before the transport header: the IP header and all its extensions.
    pub network_len: u16,
}

impl Packet {
    /// A TCP packet that asks for a new connection.
    #[must_use]
    #[inline(always)]
    pub fn opens_connection(&self) -> bool {
        self.keys.forward.proto == proto::TCP
            && self.fragment as u8 != Fragment::Later as u8
            && self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    #[must_use]
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.fragment as u8 != Fragment::Whole as u8
    }

    /// Completes a later fragment with what its first fragment said.
    #[inline(always)]
    pub fn resolve(&mut self, kind: Kind, ports: Ports) {
        self.kind = kind;
        self.set_ports(kind, ports);
    }

    #[inline(always)]
    fn set_ports(&mut self, kind: Kind, ports: Ports) {
        self.ports = [ports.0, ports.1];
        self.keys.set_ports(kind, ports);
    }

    /// Reads the packet at `bytes` into `self`, which may hold anything before.
    ///
    /// # Errors
    /// The reason to drop it. What was read until then is in `self`, so that the drop can be reported.
    #[inline(always)]
    pub fn parse(&mut self, bytes: &(impl Bytes + ?Sized), ether: u16) -> Result<(), DropReason> {
        *self = Self::default();
        match ether {
            ethertype::IPV4 => ip::v4(bytes, self),
            ethertype::IPV6 => ip::v6(bytes, self),
            ethertype::ARP => neighbour::arp(bytes, self),
            _ => Err(DropReason(drop::UNSUPPORTED_L3)),
        }
    }
}

/// Reads what stands behind the IP headers, at `offset`.
#[inline(always)]
fn transport(bytes: &(impl Bytes + ?Sized), offset: u32, packet: &mut Packet) -> Result<(), DropReason> {
    let protocol = packet.keys.forward.proto;
    packet.network_len = offset as u16;
    match protocol {
        proto::TCP => {
            let header = bytes.load::<20>(offset).ok_or(INVALID)?;
            if header[12] >> 4 < 5 {
                return Err(INVALID);
            }
            packet.tcp_flags = header[13];
            packet.transport_len = (header[12] >> 4) * 4;
            packet.set_ports(Kind::Transport, ports_of([header[0], header[1], header[2], header[3]]));
        }
        proto::UDP => {
            let header = bytes.load::<8>(offset).ok_or(INVALID)?;
            packet.transport_len = 8;
            packet.set_ports(Kind::Transport, ports_of([header[0], header[1], header[2], header[3]]));
        }
        proto::SCTP => {
            let header = bytes.load::<12>(offset).ok_or(INVALID)?;
            packet.set_ports(Kind::Transport, ports_of([header[0], header[1], header[2], header[3]]));
        }
        proto::ICMP | proto::ICMPV6 => return icmp::message(bytes, offset, packet),
        _ => return Err(DropReason(drop::UNSUPPORTED_L4)),
    }
    Ok(())
}

const INVALID: DropReason = DropReason(drop::INVALID_PACKET);

#[inline(always)]
fn ports_of(octets: [u8; 4]) -> Ports {
    Ports(u16::from_be_bytes([octets[0], octets[1]]), u16::from_be_bytes([octets[2], octets[3]]))
}
