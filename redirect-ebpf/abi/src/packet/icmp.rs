//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages, and the packets that errors quote.

use super::{Bytes, Fragment, INVALID, Kind, Packet, Ports, ip, neighbour, ports_of};
use crate::{
    DropReason,
    maps::{proto, v4_mapped},
};

#[inline(always)]
pub(super) fn message(
    bytes: &(impl Bytes + ?Sized),
    offset: u32,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let header = bytes.load::<8>(offset).ok_or(INVALID)?;
    packet.icmp_type = header[0];
    packet.icmp_code = header[1];
    let kind = match packet.keys.forward.proto {
        proto::ICMP => v4_kind(header[0]),
        _ => v6_kind(header[0]),
    };
    packet.kind = kind;
    let id = match kind {
        Kind::EchoRequest | Kind::EchoReply => u16::from_be_bytes([header[4], header[5]]),
        _ => 0,
    };
    packet.set_ports(kind, Ports(id, u16::from(header[0])));
    match kind {
        Kind::Nd => neighbour::discovery(bytes, offset, packet),
        Kind::IcmpError => {
            quoted(bytes, offset + 8, packet);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[inline(always)]
fn v4_kind(icmp_type: u8) -> Kind {
    match icmp_type {
        8 => Kind::EchoRequest,
        0 => Kind::EchoReply,
        // Destination unreachable, source quench, time exceeded, parameter problem.
        3 | 4 | 11 | 12 => Kind::IcmpError,
        _ => Kind::IcmpOther,
    }
}

#[inline(always)]
fn v6_kind(icmp_type: u8) -> Kind {
    match icmp_type {
        128 => Kind::EchoRequest,
        129 => Kind::EchoReply,
        1..=4 => Kind::IcmpError,
        130..=132 | 143 => Kind::Mld,
        133..=137 => Kind::Nd,
        _ => Kind::IcmpOther,
    }
}

/// Reads the packet that an error quotes. One that cannot be read leaves an ordinary ICMP message
/// behind, which is judged by its type.
#[inline(always)]
fn quoted(bytes: &(impl Bytes + ?Sized), offset: u32, packet: &mut Packet) {
    let at = match packet.keys.forward.proto {
        proto::ICMP => quoted_v4(bytes, offset, packet),
        _ => quoted_v6(bytes, offset, packet),
    };
    let known = match at {
        Some(at) => quoted_ports(bytes, at, packet),
        None => None,
    };
    if known.is_none() || matches!(packet.fragment, Fragment::First) {
        packet.kind = Kind::IcmpOther;
    }
}

/// The offset of the quoted packet's transport header.
#[inline(always)]
fn quoted_v4(bytes: &(impl Bytes + ?Sized), offset: u32, packet: &mut Packet) -> Option<u32> {
    let header = bytes.load::<20>(offset)?;
    let later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    if header[0] >> 4 != 4 || header[0] & 15 < 5 || later || header[9] == proto::ICMPV6 {
        return None;
    }
    let flow = &mut packet.quoted.forward;
    flow.src = v4_mapped([header[12], header[13], header[14], header[15]]);
    flow.dst = v4_mapped([header[16], header[17], header[18], header[19]]);
    flow.proto = header[9];
    Some(offset + u32::from(header[0] & 15) * 4)
}

#[inline(always)]
fn quoted_v6(bytes: &(impl Bytes + ?Sized), offset: u32, packet: &mut Packet) -> Option<u32> {
    let header = bytes.load::<8>(offset)?;
    let flow = &mut packet.quoted.forward;
    bytes.read(offset + 8, &mut flow.src)?;
    bytes.read(offset + 24, &mut flow.dst)?;
    if header[0] >> 4 != 6 || ip::is_v4_mapped(&flow.src) || ip::is_v4_mapped(&flow.dst) {
        return None;
    }
    let mut upper = ip::Upper::after(offset + 40, header[6]);
    ip::v6_upper(bytes, &mut upper).ok()?;
    if upper.proto == proto::ICMP || upper.fragment_place > 7 {
        return None;
    }
    packet.quoted.forward.proto = upper.proto;
    Some(upper.offset)
}

#[inline(always)]
fn quoted_ports(bytes: &(impl Bytes + ?Sized), offset: u32, packet: &mut Packet) -> Option<()> {
    // Eight octets of the transport header are all that an IPv4 error must quote (RFC 792).
    let header = bytes.load::<8>(offset)?;
    let (kind, ports) = match packet.quoted.forward.proto {
        proto::TCP | proto::UDP | proto::SCTP => {
            (Kind::Transport, ports_of([header[0], header[1], header[2], header[3]]))
        }
        proto::ICMP | proto::ICMPV6 => {
            let kind = match packet.quoted.forward.proto {
                proto::ICMP => v4_kind(header[0]),
                _ => v6_kind(header[0]),
            };
            if !matches!(kind, Kind::EchoRequest | Kind::EchoReply) {
                return None;
            }
            (kind, Ports(u16::from_be_bytes([header[4], header[5]]), u16::from(header[0])))
        }
        _ => return None,
    };
    packet.quoted.set_ports(kind, ports);
    Some(())
}
