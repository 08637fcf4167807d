//! Frames made by hand.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use crate::{
    netlab::{Lab, process::Finished, workload::Workload},
    scripts::python,
};

/// Sends frames out of a workload's `eth0`.
pub struct Frames<'a> {
    lab: &'a Lab,
    workload: &'a Workload,
    /// The device's own address.
    pub mac: String,
    /// The gateway's, as the workload knows it.
    gateway: String,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

impl<'a> Frames<'a> {
    pub fn new(lab: &'a Lab, workload: &'a Workload) -> Self {
        let json = |args: &[&str]| -> serde_json::Value {
            serde_json::from_str(&workload.ns.ip(args)).expect("JSON from ip")
        };
        let link = json(&["-j", "link", "show", "dev", "eth0"]);
        let neighbours = json(&["-j", "neighbour", "show", "dev", "eth0"]);
        let gateway = neighbours
            .as_array()
            .into_iter()
            .flatten()
            .find(|n| n["dst"] == "169.254.1.1")
            .unwrap_or_else(|| panic!("no gateway among {neighbours}"));
        let text = |value: &serde_json::Value| value.as_str().expect("a MAC address").to_owned();
        Self { lab, workload, mac: text(&link[0]["address"]), gateway: text(&gateway["lladdr"]) }
    }

    fn run(&self, args: &[&str]) -> Finished {
        python(self.lab, &self.workload.ns, include_str!("frames.py"), args)
    }

    fn send(&self, frame: &[u8]) {
        self.run(&["send", &hex(frame)]).success();
    }

    /// A datagram to port 9 with this source MAC and address.
    pub fn udp(&self, mac: &str, source: IpAddr, to: IpAddr, text: &str) {
        let length = u16::try_from(8 + text.len()).expect("a short text");
        let mut datagram = [9999u16, 9, length, 0].map(u16::to_be_bytes).concat();
        datagram.extend(text.as_bytes());
        let sum = checksum(&pseudo_header(source, to, UDP, &datagram));
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        self.send(&[ethernet(&self.gateway, mac, source), ip(source, to, UDP, 64, &datagram)].concat());
    }

    /// Whether a connection request made by hand gets SYN and ACK.
    pub fn syn_is_answered(&self, source: IpAddr, to: IpAddr, port: u16, limit: Duration) -> bool {
        static PORT: AtomicU16 = AtomicU16::new(20_000);
        let source_port = PORT.fetch_add(1, Ordering::Relaxed);
        let mut segment = [source_port, port, 0, 1, 0, 0, 0x5002, 65535, 0, 0].map(u16::to_be_bytes).concat();
        let sum = checksum(&pseudo_header(source, to, TCP, &segment));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let frame = [ethernet(&self.gateway, &self.mac, source), ip(source, to, TCP, 64, &segment)].concat();
        let finished = self.run(&["syn", &hex(&frame), &limit.as_secs_f32().to_string()]);
        finished.success().stdout.trim() == "answered"
    }

    /// Says to everybody that `address` lives at this workload's device: gratuitous ARP, or an
    /// unsolicited neighbour advertisement that overrides what is known.
    pub fn announce(&self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                let mut frame = [mac(&"ff:".repeat(6)[..17]), mac(&self.mac)].concat();
                frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2]);
                frame.extend([&mac(&self.mac)[..], &v4.octets(), &[0xff; 6], &v4.octets()].concat());
                self.send(&frame);
            }
            IpAddr::V6(v6) => {
                let all_nodes: Ipv6Addr = "ff02::1".parse().expect("an address");
                let own = self.workload.v6.into();
                let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
                message.extend(v6.octets());
                message.extend([2, 1]);
                message.extend(mac(&self.mac));
                let sum = checksum(&pseudo_header(own, all_nodes.into(), ICMPV6, &message));
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                let link = ethernet("33:33:00:00:00:01", &self.mac, own);
                self.send(&[link, ip(own, all_nodes.into(), ICMPV6, 255, &message)].concat());
            }
        }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}

fn mac(text: &str) -> Vec<u8> {
    text.split(':').map(|o| u8::from_str_radix(o, 16).expect("a MAC address")).collect()
}

fn ethernet(to: &str, from: &str, family: IpAddr) -> Vec<u8> {
    let kind: [u8; 2] = if family.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
    [mac(to), mac(from), kind.to_vec()].concat()
}

fn ip(source: IpAddr, to: IpAddr, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    match (source, to) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            let length = u16::try_from(20 + payload.len()).expect("a short packet").to_be_bytes();
            let mut header = vec![0x45, 0, length[0], length[1], 0, 1, 0x40, 0, hops, protocol, 0, 0];
            header.extend([source.octets(), to.octets()].concat());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&header, payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            let length = u16::try_from(payload.len()).expect("a short packet").to_be_bytes();
            let header = [0x60, 0, 0, 0, length[0], length[1], protocol, hops];
            [&header[..], &source.octets(), &to.octets(), payload].concat()
        }
        _ => panic!("two families in one packet"),
    }
}

/// What the checksum of a transport protocol covers.
fn pseudo_header(source: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short packet").to_be_bytes();
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    [&octets(source)[..], &octets(to), &length, &[0, 0, 0, protocol], payload].concat()
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = octets.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}
