//! Frames made by hand, sent from inside a workload.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::libc;

use super::world::{NODE_MAC, Place, World};

/// Sends frames from the workload's device, past its kernel's own checks.
pub(crate) fn send(world: &World, from: Place, frames: Vec<Vec<u8>>) {
    world
        .at(from, move || {
            // SAFETY: plain system calls; the address is of the size that is passed.
            unsafe {
                let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
                let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol);
                assert!(fd >= 0, "packet socket");
                let socket = OwnedFd::from_raw_fd(fd);
                let mut address: libc::sockaddr_ll = std::mem::zeroed();
                address.sll_family = libc::AF_PACKET as u16;
                address.sll_ifindex = nix::net::if_::if_nametoindex("eth0").unwrap() as i32;
                for frame in frames {
                    let sent = libc::sendto(
                        socket.as_raw_fd(),
                        frame.as_ptr().cast(),
                        frame.len(),
                        0,
                        (&raw const address).cast(),
                        size_of::<libc::sockaddr_ll>() as u32,
                    );
                    assert_eq!(sent, frame.len() as isize);
                }
            }
        })
        .join()
        .unwrap();
}

pub(crate) fn ethernet(source: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&NODE_MAC[..], &source, &ether_type.to_be_bytes(), payload].concat()
}

/// A packet with a correct header checksum; `fragment` is the flags-and-offset word.
pub(crate) fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, proto: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, proto, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

pub(crate) fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([next, hop_limit]);
    header.extend(src.octets());
    header.extend(dst.octets());
    [&header[..], payload].concat()
}

pub(crate) fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 = octets
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// UDP without a checksum over IPv4, which needs none.
pub(crate) fn udp(sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

pub(crate) fn tcp(sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(sport.to_be_bytes());
    header.extend(dport.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

pub(crate) fn arp(operation: u16, mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(mac);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    packet
}

/// A neighbour solicitation (135) or advertisement (136) with one link-layer address option.
pub(crate) fn neighbour(icmp_type: u8, target: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut message = vec![icmp_type, 0, 0, 0, 0x60, 0, 0, 0];
    message.extend(target.octets());
    message.extend([if icmp_type == 136 { 2 } else { 1 }, 1]);
    message.extend(mac);
    message
}

pub(crate) fn v4(place: Place) -> Ipv4Addr {
    match place.v4() {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => unreachable!(),
    }
}

pub(crate) fn v6(place: Place) -> Ipv6Addr {
    match place.v6() {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(_) => unreachable!(),
    }
}
