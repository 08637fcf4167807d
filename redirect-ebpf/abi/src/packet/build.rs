//! Packets for tests, built the way a sender would.

use crate::maps::proto;

pub(crate) fn ipv4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
    packet.extend(((header_len + payload.len()) as u16).to_be_bytes());
    packet.extend([0xab, 0xcd]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    packet.extend(payload);
    packet
}

pub(crate) const SRC6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const DST6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

pub(crate) fn ipv6(next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(SRC6);
    packet.extend(DST6);
    packet.extend(payload);
    packet
}

pub(crate) fn tcp(sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    let mut header = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

pub(crate) fn udp(sport: u16, dport: u16) -> Vec<u8> {
    let mut header = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    header.extend([0, 8, 0, 0]);
    header
}

pub(crate) fn sctp(sport: u16, dport: u16) -> Vec<u8> {
    let mut header = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    header.extend([0; 8]);
    header
}

pub(crate) fn icmp(icmp_type: u8, id: u16, rest: &[u8]) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    [&[icmp_type, 0, 0, 0, high, low, 0, 1][..], rest].concat()
}

/// A transport header of the protocol.
pub(crate) fn transport(protocol: u8, sport: u16, dport: u16) -> Vec<u8> {
    match protocol {
        proto::TCP => tcp(sport, dport, 2),
        proto::UDP => udp(sport, dport),
        _ => sctp(sport, dport),
    }
}

/// An IPv6 fragment header: next header, offset in octets, more.
pub(crate) fn fragment(next: u8, offset: u16, more: bool, rest: &[u8]) -> Vec<u8> {
    let place = (offset | u16::from(more)).to_be_bytes();
    [&[next, 0, place[0], place[1], 0, 0, 0, 9][..], rest].concat()
}
